// The options, formats and ways to name a server in --help, in nbdfuse(1) and in the completions: the same everywhere.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { completionScript } from '../../../src/cli/arguments/completion.js';
import { MOUNT_OPTIONS, URIS, valueKindOf } from '../../../src/cli/arguments/completion-values.js';
import { FORMAT_CHOICES } from '../../../src/cli/arguments/format-word.js';
import { helpText } from '../../../src/cli/arguments/help.js';
import { METRICS_FORMATS } from '../../../src/cli/arguments/metrics-words.js';
import { OPTION_GROUPS, OPTIONS } from '../../../src/cli/arguments/options.js';
import { MODE_WORDS } from '../../../src/cli/arguments/server-mode.js';
import { fuseOptionsHelp } from '../../../src/mount/options.js';
import { HELP as SHELL_HELP } from '../../../src/shell/arguments.js';

const ROOT = join(import.meta.dirname, '../../..');
const manual = (page: string): string => readFileSync(join(ROOT, `docs/reference/man/${page}.md`), 'utf8');

/** A section of a manual page, of a level of headings. */
function section(page: string, title: string): string {
  const [, text = ''] =
    new RegExp(`^## ${title}\\n([\\s\\S]*?)(?=^## |$(?![\\s\\S]))`, 'm').exec(manual(page)) ?? [];
  expect(text).not.toBe('');
  return text;
}

/** The heads of the items of a list. */
const itemsOf = (text: string): string[] => [...text.matchAll(/^- (.*)\\$/gm)].map(([, head]) => head);

type Value = 'none' | 'required' | 'optional';

/** Option names with what follows them: a list that can be compared. */
type Shown = readonly string[];

const entry = (names: readonly string[], value: Value): string => `${[...names].sort().join(' ')}: ${value}`;

/** `-C, --connections N`, `--overlay[=FILE]`. */
function entryOf(term: string): string {
  const [names = ''] = /^--?[a-z][\w-]*(?:, --?[a-z][\w-]*)*/i.exec(term) ?? [];
  const rest = term.slice(names.length);
  return entry(names.split(', '), rest === '' ? 'none' : rest.startsWith('[=') ? 'optional' : 'required');
}

const inProgram = (): Shown =>
  OPTIONS.map(({ names, required, optional }) =>
    entry(names, required ? 'required' : optional ? 'optional' : 'none'),
  );

function inHelp(): Shown {
  const help = helpText();
  const from = help.indexOf(`${OPTION_GROUPS[0].title}:`);
  const lines = help.slice(from, help.indexOf('Examples:')).matchAll(/^ {4}(-.*?) {2,}\S/gm);
  return [...lines].map(([, term]) => entryOf(term));
}

function inManual(): Shown {
  const terms = itemsOf(section('nbdfuse.1', 'OPTIONS')).map((head) => head.replaceAll('`', ''));
  // `--format` has a second entry for its other use.
  return terms.filter((term) => !/^--\w+=/.test(term)).map(entryOf);
}

/** The same for a script that has an entry for each name. */
function perName(found: Iterable<readonly [name: string, value: Value]>): Shown {
  const values = new Map(found);
  return OPTIONS.map(({ names }) => {
    const [value = 'none', ...others] = new Set(names.map((name) => values.get(name) ?? 'none'));
    const known = names.filter((name) => values.has(name));
    const unknown = [...values.keys()].filter(
      (name) => !OPTIONS.some((option) => option.names.includes(name)),
    );
    expect([others, unknown]).toEqual([[], []]);
    return entry(known, value);
  });
}

function inZsh(): Shown {
  const specs = completionScript('zsh').matchAll(
    /^\s*(?:_arguments -S -A '-\*' )?'(--?[\w-]+)(=-?)?\[[^\]]*\](::?)?/gm,
  );
  return perName(
    [...specs].map(([, name, , colons]) => [
      name,
      colons === undefined ? 'none' : colons === '::' ? 'optional' : 'required',
    ]),
  );
}

function inFish(): Shown {
  const lines = completionScript('fish').matchAll(
    /^complete -c nbdfuse -n '__nbdfuse_at mountpoint mounted' ((?:-[ls] \S+ )+)(-[xr] )?/gm,
  );
  const optional = OPTIONS.filter((option) => option.optional).flatMap(({ names }) => names);
  return [...lines].map(([, words, value]) => {
    const names = [...words.matchAll(/-([ls]) (\S+)/g)].map(
      ([, kind, name]) => `${kind === 'l' ? '--' : '-'}${name}`,
    );
    // fish has no words for it: it completes the name, and files after "=".
    const isOptional = names.some((name) => optional.includes(name));
    return entry(names, value !== undefined ? 'required' : isOptional ? 'optional' : 'none');
  });
}

/** bash lists the names, and those that take the next word. */
function inBash(): Shown {
  const script = completionScript('bash');
  const [, names = ''] = /_nbdfuse_add '([^']* --help [^']*)' "\$word"\n {2}elif/.exec(script) ?? [];
  const [, valued = ''] = /^ {6}(\S+)\) \(\(first \+= 2\)\) ;;$/m.exec(script) ?? [];
  const optional = OPTIONS.filter((option) => option.optional).flatMap((option) => option.names);
  return perName(
    names
      .split(' ')
      .map((name) => [
        name,
        valued.split('|').includes(name) ? 'required' : optional.includes(name) ? 'optional' : 'none',
      ]),
  );
}

describe('options', () => {
  it.each([
    ['--help', inHelp],
    ['nbdfuse(1)', inManual],
    ['the completion of bash', inBash],
    ['the completion of zsh', inZsh],
    ['the completion of fish', inFish],
  ])('%s has every option with its names and its kind of value, and no other', (_, shown) => {
    expect([...shown()].sort()).toEqual([...inProgram()].sort());
  });

  it('nbdfuse(1) has the usage of --help, and its groups of options in the same order', () => {
    const [, usage = ''] = /^Usage:\n([\s\S]*?)\n\n/m.exec(helpText()) ?? [];
    const synopsis = section('nbdfuse.1', 'SYNOPSIS').trim().split('\n\n')[0];
    const plain = synopsis.replace(/[`\\]/g, '');
    expect(usage.split('\n').map((line) => line.trim())).toEqual(plain.split('\n'));
    const titles = [...section('nbdfuse.1', 'OPTIONS').matchAll(/^### (.*)$/gm)].map(([, title]) => title);
    expect(titles).toEqual(OPTION_GROUPS.map(({ title }) => title));
  });

  it('a completion knows the kind of each value', () => {
    for (const option of OPTIONS) expect(() => valueKindOf(option), option.flags).not.toThrow();
    const help = fuseOptionsHelp();
    expect(MOUNT_OPTIONS.filter(({ name }) => !help.includes(name))).toEqual([]);
  });

  it('nbdsh: its completion has the options of its help', () => {
    const names = [...SHELL_HELP.matchAll(/^ {4}(-\w), (--\w+)/gm)].flatMap(([, short, long]) => [
      short,
      long,
    ]);
    const [, offered = ''] =
      /_nbdfuse_add '([^']*)' "\$word" ;;\n {2}esac\n}\n\n# Completes/.exec(completionScript('bash')) ?? [];
    expect(offered.split(' ').sort()).toEqual(names.sort());
  });
});

describe('ways to name a server', () => {
  it('nbdfuse(1) has all of them, and --help all but other names of the same', () => {
    const inPage = itemsOf(section('nbdfuse.1', 'SERVERS')).flatMap(
      (head) => head.match(/(?<=`)(\[|--[\w-]+)/g) ?? [],
    );
    expect(inPage.sort()).toEqual([...MODE_WORDS].sort());
    const [, modes = ''] = /^SERVER is one of:\n([\s\S]*?)\n\n/m.exec(helpText()) ?? [];
    const words = [...modes.matchAll(/^ {4}(\S+)/gm)].map(([, word]) => word);
    const others = ['--cmd', '--systemd-socket-activation', '--uri'];
    expect(words.sort()).toEqual(['URI', ...MODE_WORDS.filter((word) => !others.includes(word))].sort());
  });

  it.each(['bash', 'zsh', 'fish'] as const)(
    'the completion of %s has all of them, and beginnings of URIs',
    (shell) => {
      const script = completionScript(shell).replaceAll("'", '');
      expect(script).toContain(MODE_WORDS.join(' '));
      expect(script).toContain(URIS.join(' '));
    },
  );
});

describe('values', () => {
  it('--format: nbdfuse(1) has every word, and --help the formats of --status', () => {
    const page = section('nbdfuse.1', 'OPTIONS');
    const isInPage = (word: string): boolean =>
      page.includes(`\`${word}\``) || page.includes(`\`--format=${word}\``);
    expect(FORMAT_CHOICES.filter((word) => !isInPage(word))).toEqual([]);
    const [, inHelpText = ''] = /( --format FORMAT[\s\S]*?)\n {4}-/.exec(helpText()) ?? [];
    expect(METRICS_FORMATS.filter((word) => !inHelpText.includes(word))).toEqual([]);
  });

  it('the environment: the manual pages have every variable that the programs read', () => {
    const read = readdirSync(join(ROOT, 'src'), { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(ROOT, 'src', name), 'utf8'))
      .flatMap((text) => [
        ...[...text.matchAll(/\benv(?:ironment)?\.([A-Z][A-Z_]+)/g)].map(([, name]) => name),
        ...[...text.matchAll(/const \{ ([^}]*) \} = (?:process\.env|environment);/g)].flatMap(([, names]) =>
          names.split(', ').map((name) => name.split(/[: ]/)[0]),
        ),
        ...(text.includes('tmpdir()') ? ['TMPDIR'] : []),
      ]);
    // Of every program, of a terminal, and between nbdfuse and its servers.
    const usual = ['PATH', 'TERM', 'LISTEN_PID', 'LISTEN_FDS'];
    const described = ['nbdfuse.1', 'nbdsh.1'].flatMap((page) =>
      itemsOf(section(page, 'ENVIRONMENT')).map((head) => head.replaceAll('`', '')),
    );
    expect([...new Set(described)].sort()).toEqual(
      [...new Set(read)].filter((name) => !usual.includes(name)).sort(),
    );
  });
});
