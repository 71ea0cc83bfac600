import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { longLines, poorProse } from './support/prose-rules.js';
import type { SourceFiles } from './support/source-rules.js';

const ROOT = join(import.meta.dirname, '..');

/** The text files of the repository that are or could be committed. */
function everyFile(): SourceFiles {
  const words = ['ls-files', '-co', '--exclude-standard'];
  const names = execFileSync('git', words, { cwd: ROOT, encoding: 'utf8' }).trimEnd().split('\n');
  const present = names.filter((name) => existsSync(join(ROOT, name)));
  return new Map(present.map((name) => [name, readFileSync(join(ROOT, name), 'utf8')]));
}

/** The offences in one file. */
function offencesIn(path: string, text: string): string[] {
  return poorProse(new Map([[path, text]]));
}

describe('prose', () => {
  it('breaks no rule', () => expect(poorProse(everyFile())).toEqual([]));

  it('has no line far beyond 120 columns', () => expect(longLines(everyFile())).toEqual([]));
});

describe('prose rules', () => {
  it.each([
    ['a.md', 'Fine.\n\nWhat is missing,\nnbdfuse names.', 'a.md:3: "What is" (headless clause'],
    ['a.md', '- Who has said how many has them.', 'a.md:1: "Who has"'],
    ['a.md', 'It ends. Whoever waits gets EIO.', '"Whoever waits"'],
    ['a.md', 'It frees whoever waits.', '"whoever" (headless clause'],
    ['a.md', 'The reply: what\nwas read.', 'a.md:1: "what was" (headless clause'],
    ['a.md', 'It sends the size to who connects.', '"to who connects"'],
    ['a.md', 'The order: who waits first is first.', '": who waits"'],
    ['a.md', 'The server ended by\nitself.', 'a.md:1: "by itself" (automatically'],
    ['a.md', 'It reconnects on its own.', '"on its own" (automatically'],
    ['a.ts', '// In pieces of 1 MiB.\nf();', '"pieces" (parts'],
    ['a.ts', '// A relay of bytes.\nf();', '"relay" (proxy'],
    ['a.ts', '// The journal of writes.\nf();', '"journal" (unflushed writes'],
    ['docs/guide/a.md', 'A folder of images.', '"folder" (directory)'],
    ['a.test.ts', "f();\nit.each([1])('returns what was %s', g);", 'a.test.ts:2: "what was"'],
    ['a.test.ts', 'describe(`a b`, () => test(`ends by itself`, g));', '"by itself"'],
    ['src/cli/arguments/options.ts', "new NamedOption('-a', 'end by itself');", '"by itself"'],
    ['src/mount/option-table.ts', "flag('a', 'print what is mounted', g);", '"what is"'],
    ['a.md', '| a | What `nbdfuse` reads is right. |', '"What `'],
    ['a.md', 'The size is for who connects.', '"for who"'],
    ['a.md', 'The worker is\ntold the size.', 'a.md:1: "is told" (passive telling'],
    ['a.md', 'Servers were not asked again.', '"were not asked"'],
    ['a.md', 'The server gets a farewell.', '"farewell" (private metaphor'],
    ['a.md', 'The worker surrenders.', '"surrenders"'],
    ['a.md', 'A keeper of pages.', '"keeper"'],
    ['a.md', 'See [the haggling](https://host/options).', '"haggling" (negotiation'],
    ['a.md', 'It answers held requests.', '"held requests" (parked requests)'],
    ['a.md', '## The bridge', '"bridge" (worker)'],
    ['a.md', 'Far servers are slow.', '"Far servers" (remote server)'],
    ['a.ts', 'f(); // The splice lane.', '"splice lane" (splice pipe)'],
    ['a.ts', '\n/**\n * Reads. What is\n * missing, it names.\n */\nf();', 'a.ts:3: "What is"'],
    ['a.ts', '// The disk is\n// asked for it.\nf();', 'a.ts:1: "is asked"'],
    ['a.mjs', '/* The lender. */', '"lender"'],
    ['a.sh', 'set -e\n# The worker is\n# told the size.\nwho', 'a.sh:2: "is told"'],
    ['a', '#!/bin/sh\n# The lender.', 'a:2: "lender"'],
    ['a.1', '.SH NAME\nThe server \\fIs\\fR is told.', 'a.1:2: "is told"'],
  ])('find the offence in %s: %j', (path, text, expected) => {
    const offences = offencesIn(path, text);
    expect(offences).toHaveLength(1);
    expect(offences[0]).toContain(expected);
  });

  it.each([
    ['a question', 'a.md', 'What is NBD? Who\nneeds it?'],
    ['a clause with a subject', 'a.md', 'See what it does and what nbdfuse sends.'],
    ['a common object', 'a.md', 'The line has what failed. See what happens.'],
    ['a relative clause', 'a.md', 'A user who mounts, and who may read, is the owner.'],
    ['an owner', 'a.md', 'A mount on its own device. They act on their own files.'],
    ['a reflexive pronoun', 'a.md', 'The program itself is small. It restarts itself.'],
    ['pieces of information', 'a.md', 'Four pieces\nof information; journalctl.'],
    ['folders of the source', 'CONTRIBUTING.md', 'A room is a folder.'],
    ['other strings of a test', 'a.test.ts', "it('works', () => f('what is told', `by itself`));"],
    ['a placeholder of a title', 'a.test.ts', "it.each([1])('shows $what is %s', f);"],
    ['strings of other sources', 'src/cli/main.ts', "option('-a', 'end by itself');"],
    ['a title', 'a.md', '## What it cannot see\n\n**Who may read it**: root. [What is new](CHANGELOG.md)'],
    ['the head of a table', 'a.md', '| What it does | Who uses it |\n|---|:--|\n| nothing | root |'],
    ['an infinitive', 'a.md', 'What to read next: the manual.'],
    ['told apart', 'a.md', 'The two disks cannot be told\napart.'],
    ['a word inside another', 'a.md', 'A desktop, a talent, the gatekeeper.'],
    ['inline code', 'a.md', 'Run `what --is told` and ``the `bridge` ``.'],
    ['a block of code', 'a.md', '```sh\necho "What is told"\n```\n\n- item\n  ~~~\n  lender\n  ~~~\n'],
    ['a path, a file and a link', 'a.md', 'See src/bridge/lender.ts, lender.ts, [it](docs/desk.md).'],
    ['a quotation', 'a.md', 'The section "Termination during haggling" and “What is told”.'],
    ['a title of the specification', 'a.md', 'Termination of the session during option haggling'],
    ['an identifier', 'a.ts', '// Sets saidLender, status_desk and {@link Bridge}.\nf();'],
    ['a string literal', 'a.ts', "const text = 'What is told'; const bridge = `lender`;"],
    ['two comments apart', 'a.ts', 'f(); // Whether it is\ng(); // said to be'],
    ['an example in a comment', 'a.ts', '/**\n * Opens it.\n * ```ts\n * bridge.open();\n * ```\n */\nf();'],
    ['an example in a manual page', 'a.1', '.nf\nWhat is told\n.fi\n.B bridge\n\\fBwhat is told\\fR'],
    ['the commands of a script', 'a', '#!/bin/sh\nset -- What is told\n#'],
    ['another kind of file', 'a.json', '{ "a": "is told" }'],
  ])('accept %s', (_, path, text) => expect(offencesIn(path, text)).toEqual([]));
});

describe('the rule for long lines', () => {
  const long = 'word '.repeat(26);

  it('finds a line of prose', () =>
    expect(longLines(new Map([['docs/a.md', `Short.\n\n${long}\n`]]))).toEqual(['docs/a.md:3: 130 columns']));

  it.each([
    ['a table', 'docs/a.md', `| ${long} |`],
    ['a block of code', 'docs/a.md', `\`\`\`sh\n${long}\n\`\`\`\n`],
    ['a list of names', 'docs/a.md', '`some/name`, '.repeat(12)],
    ['a generated page', 'docs/internals/results.md', long],
  ])('accepts %s', (_, path, text) => expect(longLines(new Map([[path, text]]))).toEqual([]));
});
