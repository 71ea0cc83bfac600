// The server is killed and comes back: applications notice only a delay. The test under load uses a server
// that loses unflushed writes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { type RealServer, startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fio');

const SIZE = 64 * 1024 * 1024;

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
  ['direct', ['--direct=1']],
  ['buffered', ['--direct=0', '--fsync=64']],
])(
  'lost server: fio verifies %s while the server is killed again and again',
  async (_name, how) => {
    const scope = createScope();
    const killable = await serveFile(scope, '--filter=cache');
    const disk = await mountDisk(scope, { server: [killable.server.uri()] });
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

it('lost server: a server that comes back with another size is refused with a line that names the sizes', async () => {
  const scope = createScope();
  const killable = await serveFile(scope);
  const disk = await mountDisk(scope, { server: [killable.server.uri()], options: ['--cache=none'] });
  const handle = await openFile(scope, disk.file, 'r');
  await killable.server.program.kill('SIGKILL');
  truncateSync(scope.path('disk.raw'), SIZE / 2);
  killable.server = await startNbdkit(scope, 'file', scope.path('disk.raw'));
  await expect(handle.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toMatchObject({ code: 'EIO' });
  expect(disk.stderr).toMatch(/the size is 33554432 bytes, not 67108864/);
});
