// The rules for prose: headless clauses, passive telling, private metaphors and replaced terms.
//
// Used by the prose test. They look at Markdown, manual pages, comments, the titles of tests and the descriptions of
// options; code, other string literals, identifiers, paths and quotations are free. Works on a map from path to text
// and returns one line per offence.

import { parseSync } from 'vite';
import type { SourceFiles } from './source-rules.js';

interface Rule {
  readonly pattern: RegExp;
  readonly advice: string;
  /** The files that the rule is about; default: all. */
  readonly files?: RegExp;
}

const TELLING = 'passive telling: name who says, asks or reports it';
const METAPHOR = 'private metaphor: take the term of the NBD specification or of fuse.h';
const HEADLESS = 'headless clause: name who or what it is';
const USER_PAGES = /^(?:README\.md|man\/|docs\/(?:guide|operating|reference)\/)/;

const RULES: readonly Rule[] = [
  {
    pattern: /\b(?:What|Who|Whoever)(?!\s+to\b)\s+[\w`]{1,20}/g,
    advice: 'headless clause: begin with a noun',
  },
  {
    pattern: /\b(?:for|from|by|than|so can|lets?)\s+who\b/g,
    advice: HEADLESS,
  },
  { pattern: /\bwhoever\b/g, advice: HEADLESS },
  {
    // "What failed" and "what happens" are common; "what nbdfuse does" has a subject.
    pattern:
      /\bwhat\s+(?:is|are|was|were|has|have|had|comes?|came|arrives|begins|belongs|can|could|may|must|shall|should|needs|remains|waits|writes|reads|lies|differs)\b/g,
    advice: HEADLESS,
  },
  {
    // After "and", "or" and a comma "who" may belong to a noun before.
    pattern:
      /(?:[:;(]|\b(?:to|with|of|at|on|in|but|if|when|where|until|while|as|after|before|so))\s+who\s+\w+/g,
    advice: HEADLESS,
  },
  {
    pattern: /\bby\s+(?:it|them|him|her)sel(?:f|ves)\b/gi,
    advice: 'automatically, alone or unasked: say which',
  },
  {
    pattern: /\bon\s+(?:its|their)\s+own(?=\s*(?:[.,;:)\0]|$)|\s+(?:and|or|but|when|if|where|after)\b)/gi,
    advice: 'automatically, independently or separate: say which',
  },
  {
    pattern:
      /\b(?:is|are|was|were|be|been|being)\s+(?:(?:not|then|also|only|never)\s+)?(?:told(?!\s+apart)|asked|said)\b/gi,
    advice: TELLING,
  },
  { pattern: /\b(?:farewells?|goodbyes?|desks?|lenders?|lent|surrender(?:s|ed|ing)?)\b/gi, advice: METAPHOR },
  // Its name for a phase, in the title of a section that the protocol page cites.
  { pattern: /(?<!\bduring option )\bhaggl(?:e|es|ing)\b/gi, advice: 'negotiation, or options' },
  { pattern: /(?<!\bfile[\s-])\bkeepers?\b/gi, advice: METAPHOR },
  { pattern: /\bheld\s+(?:requests?|reads?|writes?)\b/gi, advice: 'parked requests' },
  { pattern: /\bbridges?\b/gi, advice: 'worker' },
  { pattern: /\babilities\b/gi, advice: 'capabilities' },
  { pattern: /\bseekers\b/gi, advice: 'pending lseeks' },
  { pattern: /\bsplice[\s-]lanes?\b/gi, advice: 'splice pipe' },
  { pattern: /\bfar\s+servers?\b/gi, advice: 'remote server' },
  { pattern: /\bpieces?\b(?!\s+of\s+information)/gi, advice: 'parts, or split' },
  { pattern: /\brelay(?:s|ed|ing)?\b/gi, advice: 'proxy, or forward' },
  { pattern: /\bjournals?\b/gi, advice: 'unflushed writes: a journal is durable' },
  { pattern: /\bfolders?\b/gi, advice: 'directory', files: USER_PAGES },
];

/** Stands in for code: no letter and no space, so that no pattern reaches across it. */
const CODE = '`';
/** Stands between two texts that do not belong together. */
const GAP = '\0';
const NOT_NEWLINE = /[^\n]/g;

/** Replaces each match by as many placeholders; line ends stay, so that offsets and lines stay. */
function hide(text: string, pattern: RegExp, by: string): string {
  return text.replace(pattern, (found) => found.replace(NOT_NEWLINE, by));
}

const FENCED = /^([ \t]*)(`{3,}|~{3,})[^\n]*\n[\s\S]*?(?:^[ \t]*\2[ \t]*$|$(?![\s\S]))/gm;
const INLINE_CODE = /(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g;

/** A text that is no sentence: without capitals, and with each what and who hidden. */
function label(text: string): string {
  return hide(text.toLowerCase(), /\bwh(?:at|o)\b/g, CODE);
}

/** Hides code and link targets. Titles, heads of tables and the beginnings of links are labels. */
function proseOfMarkdown(markdown: string): string {
  const withoutBlocks = hide(hide(markdown, FENCED, GAP), /<!--[\s\S]*?-->/g, GAP);
  const withoutCode = hide(hide(withoutBlocks, INLINE_CODE, CODE), /\]\([^)\s]*\)/g, CODE);
  return withoutNames(withoutCode)
    .replace(/^#+ .*$/gm, label)
    .replace(/^\|.*(?=\n\|[\s|:-]*-[\s|:-]*$)/gm, label)
    .replace(/(?:\[|\*\*)Wh(?:at|o)\b/g, label);
}

const QUOTED = /"[^"\0]{1,200}"|“[^”\0]{1,200}”/g;
const PATH = /\w+:\/\/\S+|[\w.~-]*\/[\w.~/-]+|\b[\w-]+\.(?:[cm]?[jt]s|md)\b/g;
const IDENTIFIER = /\b\w*(?:[a-z][A-Z]|_)\w*\b|\{@\w+ [^}]*\}|@param \w+/g;

/** Hides quotations, addresses, paths and identifiers. */
function withoutNames(text: string): string {
  return hide(hide(hide(text, QUOTED, CODE), PATH, CODE), IDENTIFIER, CODE);
}

const COMMENT_MARK = /^\s*(?:\/\/|\/\*+|\*(?!\/))|\*\/$/gm;

type Place = readonly [start: number, end: number];

/** The node types of parseSync are a union of everything; this is the part that matters here. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly callee?: Node;
  readonly arguments?: readonly Node[];
}

const TEST_CALL = /^(?:describe|it|test)\b/;
const TITLED_FILES = /\.test\.ts$/;
const OPTION_FILES = /^src\/(?:cli\/arguments\/options|mount\/option-table)\.ts$/;
const TEXT_TYPES: readonly string[] = ['Literal', 'TemplateLiteral'];

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value;
}

/** Titles and descriptions among the arguments of a call: the places of their texts, without quotes. */
function textsOf(node: Node, path: string, text: string): Place[] {
  if (node.callee === undefined || node.arguments === undefined) return [];
  const isTest = TITLED_FILES.test(path) && TEST_CALL.test(text.slice(node.callee.start, node.callee.end));
  const chosen = isTest ? node.arguments.slice(0, 1) : OPTION_FILES.test(path) ? node.arguments : [];
  return chosen
    .filter(({ type, start }) => TEXT_TYPES.includes(type) && /['"`]/.test(text[start]))
    .map(({ start, end }): Place => [start + 1, end - 1]);
}

/** Titles of tests and descriptions of options in a source file, in any order. */
function titlesIn(program: unknown, path: string, text: string): Place[] {
  const titles: Place[] = [];
  const waiting: unknown[] = [program];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value !== 'object' || value === null) continue;
    if (isNode(value)) titles.push(...textsOf(value, path, text));
    for (const child of Object.values(value)) if (typeof child === 'object') waiting.push(child);
  }
  return titles;
}

const PLACEHOLDER = /\$\{[^}]*\}|%[sdijo]|\$\w+/g;

/** Puts titles into the prose of a file, each at its place. */
function withTitles(prose: string, text: string, titles: readonly Place[]): string {
  let whole = prose;
  for (const [start, end] of titles) {
    const title = withoutNames(hide(text.slice(start, end), PLACEHOLDER, CODE));
    whole = whole.slice(0, start) + title + whole.slice(end);
  }
  return whole;
}

/** The comments, titles of tests and descriptions of options of a source file. */
function proseOfSource(path: string, text: string): string {
  const { comments, errors, program } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);
  const read = TITLED_FILES.test(path) || OPTION_FILES.test(path);
  const titles = read ? titlesIn(program, path, text) : [];
  return withTitles(proseOfComments(text, comments), text, titles);
}

/** The comments of a source file. Neighbours with nothing but space between them are one text. */
function proseOfComments(text: string, comments: readonly { start: number; end: number }[]): string {
  let prose = '';
  for (const { start, end } of comments) {
    const before = text.slice(prose.length, start);
    prose += before.trim() === '' ? before : before.replace(NOT_NEWLINE, GAP);
    prose += hide(text.slice(start, end), COMMENT_MARK, ' ');
  }
  return proseOfMarkdown(prose + text.slice(prose.length).replace(NOT_NEWLINE, GAP));
}

/** The text of a manual page in roff, without requests and examples. Bold and italic words are names. */
function proseOfRoff(roff: string): string {
  const withoutExamples = hide(roff, /^\.(?:nf|EX)\n[\s\S]*?^\.(?:fi|EE)$/gm, GAP);
  const withoutRequests = hide(withoutExamples, /^[.'].*$/gm, GAP);
  return withoutNames(hide(withoutRequests, /\\f[BI][\s\S]*?\\f[RP]/g, CODE));
}

/** The comments of a shell or Perl script or of a unit file: lines that begin with `#`. */
function proseOfScript(script: string): string {
  return proseOfMarkdown(
    hide(script, /^(?!\s*# ).*$/gm, GAP).replace(/^\s*#/gm, (mark) => mark.replace('#', ' ')),
  );
}

/** The prose of a file, each character at its place. Empty for a file of another kind. */
function proseOf(path: string, text: string): string {
  if (path.endsWith('.md')) return proseOfMarkdown(text);
  if (/\.[cm]?[jt]s$/.test(path)) return proseOfSource(path, text);
  if (/\.[1-9]$/.test(path)) return proseOfRoff(text);
  return text.startsWith('#!') || /\.(?:sh|service)$/.test(path) ? proseOfScript(text) : '';
}

/** Whether the sentence that goes on at a place ends with a question mark. */
function isQuestion(prose: string, from: number): boolean {
  return /[.!?](?=[\s)*_]|$)|[|\0]|\n\s*\n/.exec(prose.slice(from))?.[0] === '?';
}

/** Sentences that break a rule, with the rule's advice. */
export function poorProse(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    const prose = proseOf(path, text);
    for (const { pattern, advice, files: about } of RULES) {
      if (about?.test(path) === false) continue;
      for (const { 0: found, index } of prose.matchAll(pattern)) {
        if (/\bwh/i.test(found) && isQuestion(prose, index)) continue;
        const line = text.slice(0, index).split('\n').length;
        offences.push(`${path}:${line}: "${found.replace(/\s+/g, ' ')}" (${advice})`);
      }
    }
  }
  return offences;
}

/** Pages that are wrapped at 120 columns: all but README.md and those that programs write. */
const WRAPPED_PAGES = /^(?!README\.md$|docs\/internals\/results\.md$|docs\/reference\/api\/).*\.md$/;
/** Columns: those of a line, and some for the last word. */
const MOST_COLUMNS = 124;
/** Columns of a line of prose besides names; others are lists of names. */
const MOST_WORDS = 60;

/** Lines of prose far beyond 120 columns, in pages. Tables, code and lists of names have any length. */
export function longLines(files: SourceFiles): string[] {
  return [...files]
    .filter(([path]) => WRAPPED_PAGES.test(path))
    .flatMap(([path, text]) =>
      hide(text, FENCED, GAP)
        .split('\n')
        .map((line, i) => ({ line, at: `${path}:${i + 1}` }))
        .filter(({ line }) => line.length > MOST_COLUMNS && !/^[|\0]/.test(line))
        .filter(({ line }) => line.replace(INLINE_CODE, '').length > MOST_WORDS)
        .map(({ line, at }) => `${at}: ${line.length} columns`),
    );
}
