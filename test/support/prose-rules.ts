// The rules for prose: headless clauses, passive telling, private metaphors and replaced terms.
//
// Used by the prose test. They look at Markdown, manual pages and comments; code, string literals, identifiers,
// paths and quotations are free. Works on a map from path to text and returns an offence a line.

import { parseSync } from 'vite';
import type { SourceFiles } from './source-rules.js';

interface Rule {
  readonly pattern: RegExp;
  readonly advice: string;
}

const TELLING = 'passive telling: name who says, asks or reports it';
const METAPHOR = 'private metaphor: take the term of the NBD specification or of fuse.h';

const RULES: readonly Rule[] = [
  {
    pattern: /\b(?:What|Who|Whoever)(?!\s+to\b)\s+[\w`]{1,20}/g,
    advice: 'headless clause: begin with a noun',
  },
  {
    pattern: /\b(?:for|from|by|than|so can|lets?)\s+who(?:ever)?\b/g,
    advice: 'headless clause: name who it is',
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
];

/** Stands in for code: no letter and no space, so that no pattern reaches across it. */
const CODE = '`';
/** Stands between two pieces of prose that do not belong together. */
const GAP = '\0';
const NOT_NEWLINE = /[^\n]/g;

/** Replaces each match by as many placeholders; line ends stay, so that offsets and lines stay. */
function hide(text: string, pattern: RegExp, by: string): string {
  return text.replace(pattern, (found) => found.replace(NOT_NEWLINE, by));
}

const FENCED = /^([ \t]*)(`{3,}|~{3,})[^\n]*\n[\s\S]*?(?:^[ \t]*\2[ \t]*$|$(?![\s\S]))/gm;
const INLINE_CODE = /(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g;

/** Hides code and link targets. Titles, heads of tables and links lose their capital: they are no sentences. */
function proseOfMarkdown(markdown: string): string {
  const withoutBlocks = hide(hide(markdown, FENCED, GAP), /<!--[\s\S]*?-->/g, GAP);
  const withoutCode = hide(hide(withoutBlocks, INLINE_CODE, CODE), /\]\([^)\s]*\)/g, CODE);
  return withoutNames(withoutCode)
    .replace(/^#+ .*$/gm, (title) => title.toLowerCase())
    .replace(/^\|.*(?=\n\|[\s|:-]*-[\s|:-]*$)/gm, (heads) => heads.toLowerCase())
    .replace(/(?:\[|\*\*)W(?=ha|ho)/g, (start) => start.toLowerCase());
}

const QUOTED = /"[^"\0]{1,200}"|“[^”\0]{1,200}”/g;
const PATH = /\w+:\/\/\S+|[\w.~-]*\/[\w.~/-]+|\b[\w-]+\.(?:[cm]?[jt]s|md)\b/g;
const IDENTIFIER = /\b\w*(?:[a-z][A-Z]|_)\w*\b|\{@\w+ [^}]*\}|@param \w+/g;

/** Hides quotations, addresses, paths and identifiers. */
function withoutNames(text: string): string {
  return hide(hide(hide(text, QUOTED, CODE), PATH, CODE), IDENTIFIER, CODE);
}

const COMMENT_MARK = /^\s*(?:\/\/|\/\*+|\*(?!\/))|\*\/$/gm;

/** The comments of TypeScript or JavaScript. Neighbours with nothing but space between them are one text. */
function proseOfSource(path: string, text: string): string {
  const { comments, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);
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
    for (const { pattern, advice } of RULES) {
      for (const { 0: found, index } of prose.matchAll(pattern)) {
        if (/^Wh/.test(found) && isQuestion(prose, index)) continue;
        const line = text.slice(0, index).split('\n').length;
        offences.push(`${path}:${line}: "${found.replace(/\s+/g, ' ')}" (${advice})`);
      }
    }
  }
  return offences;
}
