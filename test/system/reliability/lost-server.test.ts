// The server is killed and comes back: applications notice only a delay. The test under load uses a server
// that loses unflushed writes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { descendant } from '../../support/run/descendants.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { type RealServer, startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fio');

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

interface Killable {
  server: RealServer;
  restart(): Promise<void>;
}

async function serveFile(scope: Scope, ...filters: readonly string[]): Promise<Killable> {
  const disk = scope.path('disk.raw');
  writeFileSync(disk, '');
  truncateSync(disk, SIZE);
  const start = (): Promise<RealServer> => startNbdkit(scope, ...filters, 'file', disk);
  const killable: Killable = {
    server: await start(),
    restart: async () => {
      await killable.server.program.kill('SIGKILL');
      killable.server = await start();
    },
  };
  return killable;
}

it('lost server: an idle mount continues after the server was killed and restarted', async () => {
  const scope = createScope();
  const killable = await serveFile(scope);
  const disk = await mountDisk(scope, { server: [killable.server.uri()] });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.from('before'), 0, 6, 4096);
  await handle.sync();
  await killable.restart();
  await handle.write(Buffer.from('after!'), 0, 6, 8192);
  await handle.sync();
  const { buffer } = await handle.read(Buffer.alloc(8192), 0, 8192, 4096);
  expect(buffer.subarray(0, 6).toString()).toBe('before');
  expect(buffer.subarray(4096, 4102).toString()).toBe('after!');
  expect(readFileSync(scope.path('disk.raw')).subarray(8192, 8198).toString()).toBe('after!');
});

it.each([
  ['direct', ['--direct=1'], []],
  ['buffered', ['--direct=0', '--fsync=64'], []],
  ['direct, with a cache file,', ['--direct=1'], ['--cache-file']],
])(
  'lost server: fio verifies %s while the server is killed again and again',
  async (_name, how, cache) => {
    const scope = createScope();
    const killable = await serveFile(scope, '--filter=cache');
    const options = cache.map((option) => `${option}=${scope.path('cache')}`);
    const disk = await mountDisk(scope, { server: [killable.server.uri()], options });
    const words = [
      '--name=v',
      `--filename=${disk.file}`,
      '--size=8M',
      '--offset_increment=8M',
      '--numjobs=4',
    ];
    const job = ['--rw=randwrite', '--bs=8k', '--verify=crc32c', '--do_verify=1', '--verify_state_save=0'];
    const rate = ['--rate_iops=400', '--allow_file_create=0', '--ioengine=psync'];
    const fio = spawn('fio', [...words, ...job, ...rate, ...how], { stdio: ['ignore', 'pipe', 'inherit'] });
    scope.add(() => void fio.kill('SIGKILL'));
    let output = '';
    fio.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const ended = once(fio, 'exit');
    let kills = 0;
    const killing = (async () => {
      while (fio.exitCode === null && kills < 5) {
        await new Promise((resolve) => {
          setTimeout(resolve, 300 + ((kills * 137) % 400));
        });
        await killable.restart();
        kills++;
      }
    })();
    const [status] = await ended;
    await killing;
    expect(output).not.toMatch(/err= *[1-9]|verify:/);
    expect(status).toBe(0);
    expect(kills).toBeGreaterThan(2);
  },
  120_000,
);

it('lost server: --reconnect=0 fails at once with EIO', async () => {
  const scope = createScope();
  const killable = await serveFile(scope);
  const disk = await mountDisk(scope, {
    server: [killable.server.uri()],
    options: ['--reconnect=0', '--cache=none'],
  });
  const handle = await openFile(scope, disk.file, 'r');
  await killable.server.program.kill('SIGKILL');
  await expect(handle.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toMatchObject({ code: 'EIO' });
});

it('lost server: requests fail with EIO when the time is over, and work again when the server returns', async () => {
  const scope = createScope();
  const killable = await serveFile(scope);
  const disk = await mountDisk(scope, {
    server: [killable.server.uri()],
    options: ['--reconnect=1', '--cache=none'],
  });
  const handle = await openFile(scope, disk.file, 'r');
  await killable.server.program.kill('SIGKILL');
  await expect(handle.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toMatchObject({ code: 'EIO' });
  await killable.restart();
  const healed = async (): Promise<boolean> => {
    try {
      await handle.read(Buffer.alloc(4096), 0, 4096, 0);
      return true;
    } catch {
      return false;
    }
  };
  let works = false;
  await until('the mount to heal', () => {
    void healed().then((now) => {
      works ||= now;
    });
    return works;
  });
});

it.each([
  ['', []],
  [', with a cache file,', ['--cache-file']],
])(
  'lost server: a server that comes back with another size%s is refused with a line that names the sizes',
  async (_name, cache) => {
    const scope = createScope();
    const killable = await serveFile(scope);
    const options = ['--cache=none', ...cache.map((option) => `${option}=${scope.path('cache')}`)];
    const disk = await mountDisk(scope, { server: [killable.server.uri()], options });
    const handle = await openFile(scope, disk.file, 'r');
    await killable.server.program.kill('SIGKILL');
    truncateSync(scope.path('disk.raw'), SIZE / 2);
    killable.server = await startNbdkit(scope, 'file', scope.path('disk.raw'));
    await expect(handle.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toMatchObject({ code: 'EIO' });
    expect(disk.stderr).toMatch(/the size is 33554432 bytes, not 67108864/);
  },
);

/** Makes the disk another one than an empty disk for good, and has a cache keep its first bytes. */
async function mark(scope: Scope, file: string): Promise<void> {
  const handle = await openFile(scope, file, 'r+');
  await handle.write('mark', 0);
  await handle.sync();
  expect(await textOf(file)).toBe('mark');
}

/** The first bytes of the disk. */
async function textOf(file: string): Promise<string> {
  return (await readAt(file, 0, 4)).toString('latin1');
}

it('lost server: a cache file does not hide that the server comes back with another disk', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', String(SIZE));
  const options = ['--cache=none', '--cache-file', scope.path('cache')];
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  await mark(scope, disk.file);
  await server.program.kill('SIGKILL');
  await startNbdkit(scope, 'memory', String(SIZE));
  await expect(textOf(disk.file)).rejects.toMatchObject({ code: 'EIO' });
  expect(disk.stderr).toContain('the server has other bytes than the cache, which is emptied\n');
  await disk.program.says(/the server came back with another disk: the bytes at offset 0 have changed/);
});

it.each([
  ['a cache file', ['--cache-size=16M', '--cache-file']],
  ['memory alone', ['--trace']],
])('lost server: a read-only mount with %s mixes no bytes of two disks', async (_, more) => {
  const scope = createScope();
  const [first, second] = ['A', 'B'].map((letter) => {
    const path = scope.path(letter);
    writeFileSync(path, Buffer.alloc(SIZE, letter));
    return path;
  });
  const server = await startNbdkit(scope, '--readonly', 'file', first);
  const options = ['-r', '--cache=none', '--cache-memory=16M', ...more, scope.path('kept')];
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const lettersOf = async (offset: number): Promise<string> =>
    [...new Set((await readAt(disk.file, offset, MIB)).toString('latin1'))].join('');
  // The worker has its sample of a unit that later ones evict.
  for (let offset = 0; offset < 32 * MIB; offset += MIB) expect(await lettersOf(offset)).toBe('A');
  await server.program.kill('SIGKILL');
  await startNbdkit(scope, '--readonly', 'file', second);
  for (const offset of [31 * MIB, 0, 31 * MIB, 48 * MIB]) expect(await lettersOf(offset)).toBe('B');
  expect(disk.stderr).toContain('the server has other bytes than the cache, which is emptied\n');
  expect(await disk.stop()).toBe(0);
});

it.each([
  ['at the same URI', false],
  ['of the same program in brackets', true],
])('lost server: a cache file shows nothing of a former disk %s', async (_, isChild) => {
  const scope = createScope();
  const options = ['--cache=none', '--cache-file', scope.path('cache')];
  const words = ['memory', String(SIZE)];
  for (const how of ['as a new cache', 'with the former cache']) {
    const server = isChild ? undefined : await startNbdkit(scope, ...words);
    const disk = await mountDisk(scope, {
      server: server ? [server.uri()] : ['[', 'nbdkit', ...words, ']'],
      options,
    });
    expect(await textOf(disk.file), how).toBe('\0\0\0\0');
    await mark(scope, disk.file);
    expect(await disk.stop()).toBe(0);
    await server?.program.kill('SIGKILL');
  }
});

it.each([
  ['', []],
  [' and --restart', ['--restart']],
])(
  'lost server: with a cache file%s a program in brackets is not replaced by one with another disk',
  async (_, more) => {
    const scope = createScope();
    const options = ['--cache=none', '--cache-file', scope.path('cache'), ...more];
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', String(SIZE), ']'], options });
    await mark(scope, disk.file);
    process.kill((await descendant(disk.program.pid, /^\S*nbdkit memory /)).pid, 'SIGKILL');
    await expect(textOf(disk.file)).rejects.toMatchObject({ code: 'EIO' });
    const lost =
      'the server is lost: nbdfuse-chunks exited with status 1: nbdfuse: nbdkit was killed by SIGKILL';
    await disk.program.says(new RegExp(lost));
    await expect(textOf(disk.file)).rejects.toMatchObject({ code: 'EIO' });
  },
);
