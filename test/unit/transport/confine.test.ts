// The sandbox of servers: the rights of a program in it, tested with a shell as the program. Runs as root,
// for whom file modes do not count, and as a normal user.

import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  bareWords,
  type Confinement,
  confinedWords,
  programOf,
  whyUnconfined,
} from '../../../src/transport/confine.js';
import { handshakeLimit } from '../../../src/transport/negotiate.js';
import { proxyWords } from '../../../src/transport/proxy.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { type Outcome, tryProgram } from '../../support/run/command.js';
import { AS_NORMAL_USER, admitNormalUser, giveToNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('perl', 'strace', 'python3', 'setpriv');
requireRoot();

/** A folder with a secret and an image, owned by the normal user. */
function createFiles(): Scope {
  const scope = createScope();
  admitNormalUser(scope);
  mkdirSync(scope.path('home'));
  for (const name of ['secret', 'image', 'home/.bashrc']) writeFileSync(scope.path(name), `${name}\n`);
  symlinkSync('secret', scope.path('link'));
  for (const name of ['home', 'secret', 'image', 'home/.bashrc']) giveToNormalUser(scope.path(name));
  return scope;
}

const WHO: readonly (readonly [string, readonly string[]])[] = [
  ['root', []],
  ['a normal user', AS_NORMAL_USER],
];

describe.each(WHO)('sandbox of %s', (_, prefix) => {
  /** Runs a line of shell with the scope's folder as $1. */
  function shell(scope: Scope, allowed: Confinement, line: string): Promise<Outcome> {
    const env = ['env', `TMPDIR=${scope.folder}`];
    const words = [...prefix, ...env, ...confinedWords(['sh', '-c', line, 'sh', scope.folder], allowed)];
    return tryProgram(words[0] ?? '', ...words.slice(1));
  }

  it.each([
    ['reads no other file', 'cat "$1/secret"'],
    ['reads none through a link beside the image', 'cat "$1/link"'],
    ['writes to none', 'echo x >>"$1/home/.bashrc"'],
    ['makes none', 'echo x >"$1/home/new"'],
    ['removes none', 'rm "$1/secret"'],
    ['lists no folder', 'ls "$1"'],
    ['learns no environment of a process', `cat /proc/${process.pid}/environ`],
    ['sees no password', 'cat /etc/passwd'],
    ['signals nobody', `kill -0 ${process.pid}`],
    ['runs no program of the user', 'cp /bin/true "$1/image"; "$1/image"'],
  ])('%s', async (_, line) => {
    const scope = createFiles();
    const { status, stdout, stderr } = await shell(scope, { writable: [scope.path('image')] }, line);
    expect(status).not.toBe(0);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/Permission denied|Operation not permitted/);
    expect((await readFile(scope.path('home/.bashrc'))).toString()).toBe('home/.bashrc\n');
    expect(readdirSync(scope.path('home'))).toEqual(['.bashrc']);
  });

  it('allows the permitted reads and writes', async () => {
    const scope = createFiles();
    const allowed = { readable: [scope.path('secret')], writable: [scope.path('image')] };
    const line = 'cat "$1/secret"; echo more >>"$1/image"; cat "$1/image"; echo x >>"$1/secret"';
    const { stdout, stderr } = await shell(scope, allowed, line);
    expect(stdout).toBe('secret\nimage\nmore\n');
    expect(stderr).toMatch(/secret: Permission denied/);
  });

  it('has a directory for temporary files, which is removed at the end', async () => {
    const scope = createFiles();
    const line =
      'echo x >"$TMPDIR/file"; cat "$TMPDIR/file"; mkdir "$TMPDIR/folder"; rmdir "$TMPDIR/folder"; echo "$TMPDIR"';
    const { stdout } = await shell(scope, { temporary: true }, line);
    expect(stdout).toMatch(/^x\n\/\S+\/nbdfuse-[0-9a-f]{16}\n$/);
    await until(
      'the end of the folder',
      () => !readdirSync(scope.folder).some((name) => /^nbdfuse-/.test(name)),
    );
  });

  it('has no TCP, unless permitted', async () => {
    const scope = createFiles();
    const server = createServer().listen(0, '127.0.0.1');
    scope.add(async () => void server.close());
    await until('the server', () => server.listening);
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const line = `exec /usr/bin/python3 -c 'import socket; socket.create_connection(("127.0.0.1", ${port}))'`;
    expect((await shell(scope, {}, line)).stderr).toMatch(/Permission denied/);
    expect((await shell(scope, { network: true }, line)).status).toBe(0);
  });
});

/** Runs `cat secret` in the sandbox, with one system call failing. */
async function withFailure(call: string, error: string): Promise<Outcome> {
  const scope = createFiles();
  const words = confinedWords(['cat', scope.path('secret')], {});
  const inject = ['-f', '-o', scope.path('trace'), '-e', `inject=${call}:error=${error}`];
  return tryProgram('strace', ...inject, ...words);
}

describe('sandbox and kernel', () => {
  it('without Landlock the program runs unconfined', async () => {
    expect((await withFailure('landlock_create_ruleset', 'ENOSYS')).stdout).toBe('secret\n');
  });

  it('with a Landlock that refuses, the program does not run', async () => {
    const { status, stdout, stderr } = await withFailure('landlock_restrict_self', 'E2BIG');
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^nbdfuse: server sandbox: landlock_restrict_self: Argument list too long\n$/);
  });
});

it('sandbox: applies to programs in system directories only', async () => {
  expect(await whyUnconfined(['sh', 'cat'])).toBeUndefined();
  const scope = createScope();
  writeFileSync(scope.path('own'), '#!/bin/sh\n', { mode: 0o755 });
  expect(await whyUnconfined([scope.path('own')])).toMatch(/own is not in a system directory$/);
});

it('sandbox: does not hide the name of the program', () => {
  const argv = ['qemu-nbd', '--', 'x'];
  expect(bareWords(confinedWords(argv, { readable: ['/a', '/b'], temporary: true }))).toEqual(argv);
  expect(bareWords(argv)).toEqual(argv);
});

describe('program of a server', () => {
  it.each([
    [['nbdkit', 'null'], 'nbdkit'],
    [['env', '-u', 'LISTEN_PID', '-u', 'LISTEN_FDS', 'nbdkit', '-U', '-'], 'nbdkit'],
    [['/usr/bin/env', '-i', 'A=b', '--chdir=/', '-C', '/', 'qemu-nbd', '-r'], 'qemu-nbd'],
    [confinedWords(['env', '-u', 'LISTEN_PID', 'nbdkit'], {}), 'nbdkit'],
    [proxyWords(['qemu-nbd', 'x'], { size: 1n }), 'nbdfuse-proxy'],
    [['env'], 'env'],
    [[], 'the server'],
  ])('of %j is %s', (argv, name) => {
    expect(programOf(argv)).toBe(name);
  });
});

describe('time of a handshake', () => {
  it.each([
    [['nbdkit', 'null'], 30_000],
    [['nbdkit', '--filter=gzip', 'file', 'd.gz'], 300_000],
    [['nbdkit', '--filter', 'gzip', 'file', 'd.gz'], 300_000],
    [['nbdkit', '-U', '-', 'nbd', 'command=nbdkit', 'arg=--filter=gzip'], 300_000],
  ])('of %j is %d ms, and only with gzip without progress', (argv, milliseconds) => {
    expect(handshakeLimit(argv)).toEqual({ milliseconds, allowsProgress: milliseconds > 30_000 });
  });
});
