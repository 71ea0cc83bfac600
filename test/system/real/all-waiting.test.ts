// --all while requests wait for the server: exports that disappear meanwhile, signals to programs, and the stop.

import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat, statfs } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { writeAt } from '../../support/files.js';
import { startLister } from '../../support/lister.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

/** The limit of a stop: ten seconds and a little. */
const STOP_LIMIT = 12_000;

/** A mounted server that can keep silent. */
async function mountLister(scope: Scope, names: string[], ...options: readonly string[]) {
  const silent = { lists: false, opens: false };
  const held: (() => void)[] = [];
  let listsHeld = 0;
  const list = (): string[] | undefined => {
    if (!silent.lists) return names;
    listsHeld++;
    return undefined;
  };
  const open = (answer: () => void): void => {
    if (silent.opens) held.push(answer);
    else answer();
  };
  const server = await startLister(scope, list, open);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--all', ...options] });
  const requested = { lists: () => listsHeld > 0, opens: () => held.length > 0 };
  return { ...disk, held, silent, requested };
}

/** A program as started at a terminal, once it waits for the server's answer. */
async function startWaiting(
  scope: Scope,
  isRequested: () => boolean,
  ...words: readonly string[]
): Promise<Program> {
  const start = (): Program => new Program(scope, 'env', ['--default-signal', ...words]);
  let program = start();
  await until('a program to wait for an answer', async () => {
    // A fresh list needs no request: the program ends at once.
    if (program.child.exitCode !== null) program = start();
    if (!isRequested()) return false;
    const where = await readFile(`/proc/${program.pid}/wchan`, 'utf8').catch(() => '');
    return /fuse|request_wait/.test(where);
  });
  return program;
}

it('--all: an open(2) of an export that disappears meanwhile fails, and the other exports stay', async () => {
  const scope = createScope();
  const names = ['a', 'b'];
  const { mountpoint, held, silent, stop, program } = await mountLister(scope, names);
  await stat(`${mountpoint}/a`);
  silent.opens = true;
  const opening = open(`${mountpoint}/a`, 'r').catch((error: Error) => error);
  await until('a request at the server', () => held.length > 0);
  names.shift();
  await until('the end of the name', async () => (await readdir(mountpoint)).join() === 'b');
  for (const answer of held) answer();
  expect(String(await opening)).toMatch(/ENOENT/);
  expect((await stat(`${mountpoint}/b`)).size).toBe(1024 * 1024);
  expect(await stop()).toBe(0);
  expect(program.stderr).toBe('');
});

it('--all: a name that the kernel remembers cannot be opened when its export has disappeared', async () => {
  const scope = createScope();
  const names = ['a', 'b'];
  const { mountpoint, stop } = await mountLister(scope, names, '-o', 'entry_timeout=3600');
  await stat(`${mountpoint}/a`);
  names.shift();
  await until('the end of the name', async () => (await readdir(mountpoint)).join() === 'b');
  await expect(open(`${mountpoint}/a`, 'r')).rejects.toThrow(/ENOENT/);
  expect(await stop()).toBe(0);
});

it.each<[string, 'lists' | 'opens', string[]]>([
  ['ls, which waits for a list', 'lists', ['ls']],
  ['ls of a name that nobody knows yet', 'lists', ['ls', 'c']],
  ['cat, which waits for a connection', 'opens', ['cat', 'a']],
])('--all: SIGINT ends %s at once', async (_, what, [command, name = '']) => {
  const scope = createScope();
  const { mountpoint, silent, requested, stop } = await mountLister(scope, ['a']);
  silent[what] = true;
  const waiting = await startWaiting(scope, requested[what], command, `${mountpoint}/${name}`);
  const start = performance.now();
  expect(await waiting.kill('SIGINT')).toBe('SIGINT');
  expect(performance.now() - start).toBeLessThan(1500);
  expect(await stop()).toBe(0);
});

it.each<[string, 'lists' | 'opens', string]>([
  ['a list', 'lists', 'echo "$0"/*'],
  ['a connection', 'opens', 'read -r line < "$0/a"'],
])('--all: a program that waits for %s ends also after a handled signal', async (_, what, script) => {
  const scope = createScope();
  const { mountpoint, silent, requested, stop } = await mountLister(scope, ['a']);
  silent[what] = true;
  const words = ['bash', '-c', `trap : USR1; ${script}`, mountpoint];
  const waiting = await startWaiting(scope, requested[what], ...words);
  process.kill(waiting.pid, 'SIGUSR1');
  // When the task is uninterruptible, the kernel has sent FUSE_INTERRUPT; when nbdfuse answers a later
  // request, it has read it.
  await until('nbdfuse to get the harmless signal', async () =>
    /^State:\s+D/m.test(await readFile(`/proc/${waiting.pid}/status`, 'utf8')),
  );
  await statfs(mountpoint);
  const start = performance.now();
  expect(await waiting.kill('SIGTERM')).toBe('SIGTERM');
  // nbdfuse gives up a list after three seconds in any case.
  expect(performance.now() - start).toBeLessThan(2000);
  expect(await stop()).toBe(0);
});

it('--all: the trace shows the error of a pending request that was refused', async () => {
  const scope = createScope();
  const names = ['a', 'b'];
  const { mountpoint, held, silent, stop, program } = await mountLister(scope, names, '-v');
  await stat(`${mountpoint}/a`);
  silent.opens = true;
  const ended = await startWaiting(scope, () => held.length > 0, 'cat', `${mountpoint}/a`);
  expect(await ended.kill('SIGINT')).toBe('SIGINT');
  const opening = open(`${mountpoint}/a`, 'r').catch((error: Error) => error);
  names.shift();
  await until('the end of the name', async () => (await readdir(mountpoint)).join() === 'b');
  expect(String(await opening)).toMatch(/ENOENT/);
  expect(await stop()).toBe(0);
  expect(program.stderr).toMatch(/^nbdfuse: #\d+ FUSE_OPEN node \d+: EINTR, \d+ us$/m);
  expect(program.stderr).toMatch(/^nbdfuse: #\d+ FUSE_OPEN node \d+: ESTALE, \d+ us$/m);
});

it('--all: SIGTERM ends nbdfuse and programs that wait for a list or a connection', async () => {
  const scope = createScope();
  const { mountpoint, silent, requested, stop, program } = await mountLister(scope, ['a']);
  silent.lists = true;
  silent.opens = true;
  const reader = await startWaiting(scope, requested.opens, 'cat', `${mountpoint}/a`);
  const lister = await startWaiting(scope, requested.lists, 'ls', mountpoint);
  const start = performance.now();
  await stop();
  expect(performance.now() - start).toBeLessThan(STOP_LIMIT);
  expect(program.stderr).toContain('is in use: nbdfuse detached it');
  expect(await reader.ended).not.toBe(0);
  await lister.ended;
});

it('--all: SIGTERM ends the mount on a hung server, and reports the lost data of each file', async () => {
  const scope = createScope();
  mkdirSync(scope.path('images'));
  for (const name of ['a', 'b', 'c']) {
    writeFileSync(scope.path('images', name), '');
    truncateSync(scope.path('images', name), 1024 * 1024);
  }
  const server = await startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
  const options = ['--all', '--cache=none', '-C', '1'];
  const { mountpoint, stop, program } = await mountDisk(scope, { server: [server.uri()], options });
  await writeAt(`${mountpoint}/a`, Buffer.alloc(4096, 'x'), 8192);
  await writeAt(`${mountpoint}/b`, Buffer.alloc(8192, 'x'), 0);
  await readFile(`${mountpoint}/c`);
  server.program.child.kill('SIGSTOP');
  const start = performance.now();
  expect(await stop()).toBe(1);
  expect(performance.now() - start).toBeLessThan(STOP_LIMIT);
  expect(program.stderr).toContain(
    "12288 bytes are not on the server's disk (timeout): a: offset 8192 length 4096; b: offset 0 length 8192\n",
  );
});
