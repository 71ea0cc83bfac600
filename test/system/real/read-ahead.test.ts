// Read-ahead for a normal user on a remote server. The kernel alone reads at most 128 KiB ahead.

import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser, giveToNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'dd', 'cmp', 'fallocate');

const MIB = 1024 * 1024;
const SIZE = 24 * MIB + 4096;
const [SETPRIV, ...WORDS] = AS_NORMAL_USER;

/** The lengths that nbdkit writes into its log. */
const WHOLE_SEGMENT = /count=0x100000 /g;

interface RemoteDisk {
  readonly scope: Scope;
  readonly disk: MountedDisk;
  readonly content: Buffer;
  /** Runs a program as the normal user. */
  run(...words: readonly string[]): Promise<string>;
  /** The number of READs of a whole segment at the server. */
  segments(): Promise<number>;
}

/** A disk of random bytes, some milliseconds away. */
async function mountRemote(...options: readonly string[]): Promise<RemoteDisk> {
  const scope = createScope();
  admitNormalUser(scope);
  const content = randomBytes(SIZE);
  const [backing, log] = [scope.path('disk'), scope.path('log')];
  await writeFile(backing, content);
  await writeFile(log, '');
  giveToNormalUser(backing);
  giveToNormalUser(log);
  const filters = ['--filter=log', '--filter=delay'];
  const server = ['[', 'nbdkit', ...filters, 'file', backing, `logfile=${log}`, 'rdelay=4ms', ']'];
  await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('mnt'));
  const disk = await mountDisk(scope, { server, options, prefix: AS_NORMAL_USER });
  return {
    scope,
    disk,
    content,
    run: (...words) => runProgram(SETPRIV, ...WORDS, ...words),
    segments: async () => (await readFile(log, 'utf8')).match(WHOLE_SEGMENT)?.length ?? 0,
  };
}

it.each([['64K'], ['1M'], ['5000']])(
  'read-ahead: a reader of %s at a time gets the right bytes from memory',
  async (size) => {
    const { scope, disk, run, segments } = await mountRemote();
    await run('dd', `if=${disk.file}`, `of=${scope.path('copy')}`, `bs=${size}`);
    await run('cmp', scope.path('disk'), scope.path('copy'));
    expect(await segments()).toBeGreaterThan(15);
    expect(disk.stderr).toBe('');
  },
);

it('read-ahead: serves two readers of different places that take turns', async () => {
  const { scope, disk, run, segments } = await mountRemote();
  const half = (of: string, skip: number) =>
    run('dd', `if=${disk.file}`, `of=${scope.path(of)}`, 'bs=64K', `skip=${skip}`, 'count=192');
  await Promise.all([half('first', 0), half('second', 192)]);
  await run('cmp', '-n', String(12 * MIB), scope.path('first'), scope.path('disk'));
  await run('cmp', '-n', String(12 * MIB), scope.path('second'), scope.path('disk'), '0', String(12 * MIB));
  expect(await segments()).toBeGreaterThan(15);
});

/** A reader that stops in the middle of a stream, so that a test can change the bytes read ahead. */
const READER = `
  const { execFileSync } = require('node:child_process');
  const fs = require('node:fs');
  const [file, copy, ...change] = process.argv.slice(1);
  const bytes = Buffer.alloc(${SIZE});
  const fd = fs.openSync(file, 'r');
  for (let at = 0; at < bytes.length; ) {
    const count = fs.readSync(fd, bytes, at, Math.min(65536, bytes.length - at), at);
    at += count;
    if (at === ${4 * MIB}) execFileSync(change[0], change.slice(1), { stdio: 'ignore', timeout: 20000 });
  }
  fs.writeFileSync(copy, bytes);
`;

it('read-ahead: a write drops the bytes read ahead there', async () => {
  const { scope, disk, content, run, segments } = await mountRemote();
  const fresh = randomBytes(64 * 1024);
  await writeFile(scope.path('fresh'), fresh, { mode: 0o644 });
  const write = ['dd', `if=${scope.path('fresh')}`, `of=${disk.file}`, 'bs=64K', 'seek=100'];
  const words = [disk.file, scope.path('copy'), ...write, 'oflag=direct', 'conv=notrunc'];
  await run(process.execPath, '-e', READER, ...words);
  fresh.copy(content, 100 * 64 * 1024);
  expect((await readFile(scope.path('copy'))).equals(content)).toBe(true);
  expect(await segments()).toBeGreaterThan(10);
});

it('read-ahead: a punched hole drops the bytes read ahead there', async () => {
  const { scope, disk, content, run } = await mountRemote();
  const punch = ['fallocate', '-p', '-o', String(7 * MIB), '-l', String(MIB + 512), disk.file];
  await run(process.execPath, '-e', READER, disk.file, scope.path('copy'), ...punch);
  content.fill(0, 7 * MIB, 8 * MIB + 512);
  expect((await readFile(scope.path('copy'))).equals(content)).toBe(true);
});

it('read-ahead: none for random reads', async () => {
  const { disk, run, segments } = await mountRemote();
  const jumps = ['--rw=randread', '--bs=4k', '--io_size=400k', '--randseed=7', '--allow_file_create=0'];
  await run(
    'fio',
    '--name=jumps',
    `--filename=${disk.file}`,
    `--size=${SIZE}`,
    '--fadvise_hint=random',
    ...jumps,
  );
  expect(await segments()).toBe(0);
});

it.each([
  ['with O_DIRECT', ['iflag=direct'], []],
  ['with --cache=none', [], ['--cache=none']],
  ['with -o max_readahead=0', [], ['-o', 'max_readahead=0']],
])('read-ahead: is off, and each READ goes to the server, %s', async (_, flags, options) => {
  const { scope, disk, run, segments } = await mountRemote(...options);
  await run('dd', `if=${disk.file}`, `of=${scope.path('copy')}`, 'bs=64K', 'count=64', ...flags);
  await run('cmp', '-n', String(4 * MIB), scope.path('disk'), scope.path('copy'));
  expect(await segments()).toBe(0);
});
