// A file of another user whose attributes look like a status: nbdfuse escapes all of them.

import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseStatus, printableStatus } from '../../../src/cli/commands/status-shape.js';
import { printableJson } from '../../../src/nbd/text.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';
import { STATUS } from '../../unit/cli/status-sample.js';

requirePrograms('setfattr');

/** Clears the screen, sets the title, the same with C1 controls, and turns text around. */
const EVIL = '\x1b[2J\x1b]0;title\x07\x9b31m\u202egood\u2028\n';
const RAW = /(?!\n)[\p{Cc}\u202e\u2028]/u;

const evil = {
  ...STATUS,
  server: EVIL,
  export: EVIL,
  state: EVIL,
  handshake: EVIL,
  flags: [EVIL],
  metaContexts: [EVIL],
};

async function putFile(scope: Scope, status: unknown): Promise<string> {
  mkdirSync(scope.path('dir'));
  const path = scope.path('dir', `a${EVIL.replaceAll('\n', '')}`);
  writeFileSync(path, '');
  await runProgram('setfattr', '-n', 'user.nbd.status', '-v', JSON.stringify(status), path);
  return path;
}

describe('--status of a foreign file', () => {
  it.each([
    ['a file', ['--status'], {}],
    ['a directory', ['--status'], {}],
    ['a file without connections', ['--status'], { connections: [] }],
    ['a file as JSON', ['--status', '--json'], {}],
  ])('escapes the text of %s, %j', async (what, words, more) => {
    const scope = createScope();
    const path = await putFile(scope, { ...evil, ...more });
    const program = startNbdfuse(scope, [...words, what === 'a directory' ? scope.path('dir') : path]);
    expect(await program.ended, program.stderr).toBe(0);
    expect(program.stdout).not.toMatch(RAW);
    if (words.includes('--json')) {
      const { files } = JSON.parse(program.stdout) as { files: { server: string; path: string }[] };
      expect(files[0]).toMatchObject({ server: EVIL, path });
    } else expect(program.stdout).toContain('\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\u{202e}good\\u{2028}\\n');
  });

  it('escapes the text with --watch, too', async () => {
    const scope = createScope();
    const path = await putFile(scope, { ...evil, connections: [] });
    const program = startNbdfuse(scope, ['--status', '--watch', path]);
    await until('a look', () => program.stdout.includes('\\x1b[2J'));
    await program.kill('SIGINT');
    expect(program.stdout).not.toMatch(RAW);
  });

  it('refuses other attributes in one line, escaped', async () => {
    const scope = createScope();
    const path = await putFile(scope, { ...evil, connections: 7 });
    const program = startNbdfuse(scope, ['--status', path]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(
      /^nbdfuse: cannot read the status of .*a\\x1b\[2J.*: this version of nbdfuse does not know its format\n$/,
    );
    expect(program.stderr).not.toMatch(RAW);
  });
});

describe('status parser', () => {
  it('accepts a text in which every member has its type', () => {
    expect(parseStatus(JSON.stringify(STATUS))).toEqual(STATUS);
    expect(printableStatus(evil).metaContexts).toEqual(printableStatus(evil).flags);
  });

  it.each([
    ['nothing', ''],
    ['null', 'null'],
    ['an array', '[]'],
    ['a missing member', JSON.stringify({ ...STATUS, reads: undefined })],
    ['an infinite number', JSON.stringify(STATUS).replace('"uptime":60', '"uptime":1e999')],
    ['a size with escapes', JSON.stringify({ ...STATUS, size: '\x1b[2J' })],
    ['an unknown cache', JSON.stringify({ ...STATUS, cache: '\x1b[2J' })],
    ['a list that is none', JSON.stringify({ ...STATUS, flags: { length: 1 } })],
    ['a pid of text', JSON.stringify({ ...STATUS, pid: '1' })],
  ])('refuses %s', (_, text) => {
    expect(parseStatus(text)).toBeUndefined();
  });
});

it('status JSON for a terminal parses to the same value', () => {
  const text = printableJson(JSON.stringify({ evil: EVIL, astral: '\u{e0001}' }, null, 2));
  expect(text).not.toMatch(RAW);
  expect(text).toContain('\\udb40\\udc01');
  expect(JSON.parse(text)).toEqual({ evil: EVIL, astral: '\u{e0001}' });
});
