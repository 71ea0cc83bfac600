// docs/reference/protocol.md lists every part of the protocol. docs/internals/protocol-rules.md names the tests of each
// part, and the source and the tests of each rule: they must exist.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as constants from '../../../src/nbd/constants.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const reference = readFileSync(join(root, 'docs/reference/protocol.md'), 'utf8');
const internals = readFileSync(join(root, 'docs/internals/protocol-rules.md'), 'utf8');

/** The parts that the protocol has withdrawn or does not define yet: there is nothing to test. */
const UNDEFINED = ['NBD_OPT_PEEK_EXPORT', 'NBD_FLAG_SEND_RESIZE', 'NBD_CMD_RESIZE'];

/** The cells of every line of the tables below a heading of a page. */
function rowsOf(page: string, heading: string): string[][] {
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

/** The text of a test file and of the helpers that it imports, where some titles are; quotes without escapes. */
function textOf(path: string): string {
  const own = readFileSync(path, 'utf8');
  const helpers = [...own.matchAll(/from '((?:\.\.\/)+support\/[\w-]+)\.js'/g)].map(([, name]) =>
    readFileSync(join(dirname(path), `${name}.ts`), 'utf8'),
  );
  return [own, ...helpers].join('\n').replaceAll("\\'", "'");
}

describe('client rules of the protocol', () => {
  const rules = rowsOf(internals, 'Client rules').filter(([section]) => section !== 'section');

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

describe('parts of the protocol', () => {
  const heads = ['part', 'flag', 'command or command flag', 'reply'];
  const parts = [...rowsOf(reference, 'Handshake'), ...rowsOf(reference, 'Transmission')]
    .map(([part]) => part)
    .filter((part) => !heads.includes(part));
  const tests = new Map(
    rowsOf(internals, 'Tests of each part').map(([part, names]) => [part, namesIn(names)]),
  );

  it('have tests, each of them', () => {
    expect(parts.filter((part) => (tests.get(part) ?? []).length === 0)).toEqual(UNDEFINED);
  });

  it('name existing tests', () => {
    const missing = [...tests.values()]
      .flat()
      .filter((name) => !existsSync(join(root, 'test', `${name}.test.ts`)));
    expect(missing).toEqual([]);
  });

  it('are every flag, option, reply, information, command, error and state of the protocol', () => {
    const kinds = /^NBD_((FLAG|OPT|REP|INFO|CMD|REPLY|STATE)_|E[A-Z]+$)/;
    const numbers = Object.keys(constants).filter((name) => kinds.test(name));
    expect(numbers.length).toBeGreaterThan(70);
    const named = new Set(parts.flatMap((part) => part.match(/NBD_\w+/g) ?? []));
    expect(numbers.filter((name) => !named.has(name))).toEqual([]);
  });
});
