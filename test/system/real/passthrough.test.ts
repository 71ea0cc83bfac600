// FUSE passthrough on real mounts: the kernel reads a complete local file without nbdfuse, and only where it may.
//
// The server has zeros and holes, and the local file has letters: a test sees where a read comes from.

import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Status } from '../../../src/worker/contract/status.js';
import { createScope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { AS_NORMAL_USER, admitNormalUser, giveToNormalUser } from '../../support/run/normal-user.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { buildProgram } from '../../unit/linux/build.js';
import type { MountSettings } from './passthrough-mount.js';

requireRoot();
requirePrograms('nbdkit', 'python3', 'mount', 'losetup', 'mkfs.ext4');

const SIZE = 1024 * 1024;
const LETTERS = Buffer.alloc(SIZE, 'abcdefg');
const ZEROS = Buffer.alloc(SIZE);

const built = new Scope();
let mounter = '';
beforeAll(async () => {
  const worker = resolve('src/worker');
  mounter = await buildProgram(built, resolve(import.meta.dirname, 'passthrough-mount.ts'), [
    `${worker}/worker.ts`,
    `${worker}/read-thread.ts`,
  ]);
});
afterAll(() => built.close());

/** A mount of the program. */
interface Mounted {
  readonly scope: Scope;
  readonly file: string;
  readonly program: Program;
  /** Gives an order and returns the answer. */
  order(line: string): Promise<unknown>;
  passthrough(): Promise<Status['passthrough']>;
}

interface Request extends MountSettings {
  readonly form?: 'directory' | 'file';
  readonly prefix?: readonly string[];
}

async function mounted({ form = 'directory', prefix = [], ...settings }: Request = {}): Promise<Mounted> {
  const scope = createScope();
  const mountpoint = scope.path('mnt');
  if (form === 'file') writeFileSync(mountpoint, '');
  else mkdirSync(mountpoint);
  if (prefix.length > 0) {
    admitNormalUser(scope);
    giveToNormalUser(mountpoint);
  }
  const server = await startNbdkit(scope, 'memory', String(SIZE));
  await runProgram('chmod', '666', server.socket);
  const words = [process.execPath, mounter, mountpoint, server.uri(), JSON.stringify(settings)];
  const [command, ...args] = [...prefix, ...words];
  const program = new Program(scope, command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const { stdin, stdout } = program.child;
  if (stdin === null || stdout === null) throw new Error('the program has no pipes');
  const lines: Interface = createInterface(stdout);
  const order = async (line: string): Promise<unknown> => {
    const answer = once(lines, 'line');
    stdin.write(`${line}\n`);
    const [text] = await Promise.race([answer, program.ended.then(() => [`"${program.stderr}"`])]);
    return JSON.parse(text);
  };
  await program.says(/ready/);
  scope.add(async () => {
    stdin.end();
    await program.ended;
  });
  const passthrough = async (): Promise<Status['passthrough']> =>
    ((await order('status')) as Status).passthrough;
  const file = form === 'file' ? mountpoint : `${mountpoint}/nbd`;
  return { scope, file, program, order, passthrough };
}

/** A local file with letters. */
function localFile(scope: Scope, name = 'cache.raw', bytes: Uint8Array = LETTERS): string {
  const path = scope.path(name);
  writeFileSync(path, bytes);
  return path;
}

/** Runs Python with a descriptor `fd` of a file, which O_DIRECT opens where `flags` says so. Returns its output. */
function python(file: string, script: string, flags = 'os.O_RDONLY'): Promise<string> {
  const head = `import os, mmap, sys\nfd = os.open(sys.argv[1], ${flags})\n`;
  return runProgram('python3', '-c', head + script, file);
}

function asNormalUser(...words: readonly string[]): Promise<string> {
  const [command, ...args] = [...AS_NORMAL_USER, ...words];
  return runProgram(command, ...args);
}

const DIRECT_READ = `
memory = mmap.mmap(-1, 8192)
os.preadv(fd, [memory], 4096)
print(memory[:7].decode(errors='replace').replace(chr(0), '0'))`;

describe.each(['directory', 'file'] as const)('passthrough: on a %s', (form) => {
  it('reads come from the local file, however a program reads', async () => {
    const { scope, file, order, passthrough, program } = await mounted({ form });
    expect(await passthrough()).toEqual({ active: false, why: 'the cache file is not complete' });
    expect((await readFile(file)).equals(ZEROS)).toBe(true);
    expect(await order(`use ${localFile(scope)}`)).toBe('accepted');
    expect(await passthrough()).toEqual({ active: true });
    expect(program.stderr).toBe('passthrough: yes\n');
    expect((await readFile(file)).equals(LETTERS)).toBe(true);
    expect(await python(file, DIRECT_READ, 'os.O_RDONLY | os.O_DIRECT')).toBe('bcdefga\n');
    expect(await python(file, 'print(mmap.mmap(fd, 0, prot=mmap.PROT_READ)[-5:])')).toBe("b'gabcd'\n");
    expect(
      await python(file, 'print(os.pread(fd, 99, os.fstat(fd).st_size - 2), os.pread(fd, 9, 2**20))'),
    ).toBe("b'cd' b''\n");
    expect(await python(file, 'os.sendfile(1, fd, 2**20 - 4, 9)')).toBe('abcd');
  });
});

describe('passthrough', () => {
  it('sends LSEEK and the reads of posix_fadvise(2) to the server, which do not mix with its own', async () => {
    const { scope, file, order } = await mounted();
    await order(`use ${localFile(scope)}`);
    const script = `
print(os.lseek(fd, 0, os.SEEK_HOLE))
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
print(os.pread(fd, 7, 0))`;
    expect(await python(file, script)).toBe("0\nb'abcdefg'\n");
  });

  it.each([
    ['buffered', 'r', ''],
    ['direct', 'os.O_RDONLY | os.O_DIRECT', ''],
    [
      'direct and mapped',
      'os.O_RDONLY | os.O_DIRECT',
      'mapped = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE)\nmapped[0]',
    ],
  ])('begins when the last handle from before is closed: %s', async (_, flags, use) => {
    const { scope, file, order, passthrough, program } = await mounted();
    const script = `${use}\nprint('open', flush=True)\nsys.stdin.read()\n${DIRECT_READ}`;
    const head = `import os, mmap, sys\nfd = os.open(sys.argv[1], ${flags === 'r' ? 'os.O_RDONLY' : flags})\n`;
    const holder = new Program(scope, 'python3', ['-c', head + script, file], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    await holder.says(/open/);
    expect(await order(`use ${localFile(scope)}`)).toBe('accepted');
    expect(await passthrough()).toMatchObject({ active: false, why: expect.stringContaining('has it open') });
    expect((await readFile(file)).equals(ZEROS)).toBe(true);
    expect(await python(file, DIRECT_READ, 'os.O_RDONLY | os.O_DIRECT')).toBe('0000000\n');
    holder.child.stdin?.end();
    expect(await holder.ended, holder.stderr).toBe(0);
    expect(holder.stdout).toBe('open\n0000000\n');
    // RELEASE is asynchronous, and a request of the same program that comes later is behind it.
    await order('status');
    expect((await readFile(file)).equals(LETTERS)).toBe(true);
    expect(program.stderr).toMatch(/^passthrough: not yet: .*\npassthrough: yes\n$/);
  });

  it('serves programs with handles of all kinds at once afterwards', async () => {
    const { scope, file, order } = await mounted({ threads: 2 });
    await order(`use ${localFile(scope)}`);
    const buffered = await openFile(scope, file, 'r');
    expect(await python(file, DIRECT_READ, 'os.O_RDONLY | os.O_DIRECT')).toBe('bcdefga\n');
    expect(await python(file, 'print(mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:2])')).toBe("b'ab'\n");
    expect((await buffered.readFile()).equals(LETTERS)).toBe(true);
  });

  it('leaves O_DIRECT to the server where the local file system has no small sectors', async () => {
    const { scope, file, order } = await mounted();
    const folder = scope.path('large-sectors');
    mkdirSync(folder);
    await runProgram('truncate', '-s', '32M', scope.path('device'));
    const loop = (await runProgram('losetup', '-f', '--show', '-b', '4096', scope.path('device'))).trim();
    scope.add(() => runProgram('losetup', '-d', loop));
    await runProgram('mkfs.ext4', '-q', loop);
    await runProgram('mount', loop, folder);
    scope.add(() => runProgram('umount', folder));
    writeFileSync(`${folder}/cache.raw`, LETTERS);
    expect(await order(`use ${folder}/cache.raw`)).toBe('accepted');
    expect((await readFile(file)).equals(LETTERS)).toBe(true);
    expect(await python(file, DIRECT_READ, 'os.O_RDONLY | os.O_DIRECT')).toBe('0000000\n');
    // The kernel has given the file back: the file system can be unmounted.
    expect(await order('stop')).toMatchObject({ unwrittenBytes: 0 });
  });

  it('refuses a local file of another size, another kind, or none, and takes a good one later', async () => {
    const { scope, file, order, passthrough } = await mounted();
    const longer = localFile(scope, 'longer', Buffer.alloc(SIZE + 1));
    expect(await order(`use ${longer}`)).toBe('the cache file has 1048577 bytes in place of 1048576');
    expect(await order(`use ${localFile(scope, 'empty', Buffer.alloc(0))}`)).toMatch(/0 bytes/);
    expect(await order(`use ${scope.folder}`)).toMatch(/not a regular file/);
    expect(await order(`use ${scope.path('nothing')}`)).toMatch(/no such file or directory/);
    expect(await passthrough()).toMatchObject({
      active: false,
      why: expect.stringContaining('no such file or directory'),
    });
    expect((await readFile(file)).equals(ZEROS)).toBe(true);
    expect(await order(`use ${localFile(scope)}`)).toBe('accepted');
    expect((await readFile(file)).equals(LETTERS)).toBe(true);
  });

  it('refuses a local file on overlayfs', async () => {
    const { scope, file, order, program } = await mounted();
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(scope.path(name));
    const options = `lowerdir=${scope.path('lower')},upperdir=${scope.path('upper')},workdir=${scope.path('work')}`;
    await runProgram('mount', '-t', 'overlay', 'overlay', '-o', options, scope.path('merged'));
    scope.add(() => runProgram('umount', scope.path('merged')));
    expect(await order(`use ${localFile(scope, 'merged/cache.raw')}`)).toMatch(/ELOOP/);
    expect((await readFile(file)).equals(ZEROS)).toBe(true);
    expect(program.stderr).toMatch(/^passthrough: no: .*overlayfs.*\n$/);
    await order('stop');
  });

  it.each<[string, Request, RegExp]>([
    ['a writable mount', { readOnly: false }, /not read-only/],
    ['--cache=none', { cache: 'none' }, /--cache=none/],
    ['--partitions', { partitions: true, cache: 'none' }, /--partitions/],
    ['a normal user', { prefix: AS_NORMAL_USER }, /SYS_ADMIN/],
  ])('is not for %s, which says why and stays as it is', async (_, request, why) => {
    const { scope, file, order, passthrough, program } = await mounted(request);
    expect(program.stderr).toMatch(/^passthrough: no: .*\n$/);
    expect(program.stderr).toMatch(why);
    expect(await passthrough()).toMatchObject({ active: false, why: expect.stringMatching(why) });
    expect(await order(`use ${localFile(scope)}`)).toMatch(why);
    if (request.prefix === undefined) expect((await readFile(file)).equals(ZEROS)).toBe(true);
    else await asNormalUser('cmp', '-n', String(SIZE), file, '/dev/zero');
  });
});
