// docs/protocol-support.md names sources and tests: they must be there, and nothing of the protocol may be
// left out.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as constants from '../../src/nbd/constants.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const page = readFileSync(join(root, 'docs/protocol-support.md'), 'utf8');

/** The cells of every line of a table below a heading. */
function rowsOf(heading: string): string[][] {
  const section = page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| ') && !/^\| ?-/.test(line))
    .map((line) =>
      line
        .slice(1, -1)
        .split(' | ')
        .map((cell) => cell.trim()),
    );
}

const namesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name);

/** What a test file says, with the helpers that it imports, where some titles are; quotes as they are meant. */
function textOf(path: string): string {
  const own = readFileSync(path, 'utf8');
  const helpers = [...own.matchAll(/from '(\.\.\/helpers\/[\w-]+)\.js'/g)].map(([, name]) =>
    readFileSync(join(dirname(path), `${name}.ts`), 'utf8'),
  );
  return [own, ...helpers].join('\n').replaceAll("\\'", "'");
}

describe('client rules of the protocol page', () => {
  const rules = rowsOf('Client rules').filter(([section]) => section !== 'section');

  it('are many, and each has a section, a rule, a source and a test', () => {
    expect(rules.length).toBeGreaterThan(70);
    expect(rules.filter((cells) => cells.length !== 4 || cells.includes(''))).toEqual([]);
  });

  it.each(rules)('%s: %s', (_section, _rule, sources, tests) => {
    for (const name of namesIn(sources)) expect(existsSync(join(root, 'src', `${name}.ts`)), name).toBe(true);
    for (const named of tests.split('<br>')) {
      const [, path, title] = /^`([\w/-]+)` › (.+)$/.exec(named) ?? [];
      expect(path, named).toBeDefined();
      expect(textOf(join(root, 'test', `${path}.test.ts`)), path).toContain(title);
    }
  });
});

describe('tables of the protocol page', () => {
  const rows = [...rowsOf('Handshake'), ...rowsOf('Transmission')];

  it('name existing tests', () => {
    const missing = rows
      .flatMap((cells) => namesIn(cells.at(-1) ?? ''))
      .filter((name) => !existsSync(join(root, 'test', `${name}.test.ts`)));
    expect(missing).toEqual([]);
  });

  it('have every flag, option, reply, information, command, error and state of the protocol', () => {
    const kinds = /^NBD_((FLAG|OPT|REP|INFO|CMD|REPLY|STATE)_|E[A-Z]+$)/;
    const numbers = Object.keys(constants).filter((name) => kinds.test(name));
    expect(numbers.length).toBeGreaterThan(70);
    const told = new Set(rows.flatMap(([first]) => first.match(/NBD_\w+/g) ?? []));
    expect(numbers.filter((name) => !told.has(name))).toEqual([]);
  });
});
