// Read threads with every form of mount return the written data.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { preloaded, startReading, statusOf } from '../../support/reading.js';
import { makePki } from '../../support/run/certificates.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fio', 'certtool');

const THREADS = ['--threads=3', '-C', '2'];

function verify({ file }: MountedDisk, direct: boolean): Promise<string> {
  const place = ['--offset=32M', '--size=8M', '--offset_increment=8M', '--numjobs=4', '--thread'];
  const job = ['--rw=randwrite', '--bsrange=512-1m', '--bs_unaligned=0', `--direct=${direct ? 1 : 0}`];
  const check = ['--verify=crc32c', '--verify_backlog=16', '--verify_fatal=1', '--verify_state_save=0'];
  const words = [`--filename=${file}`, ...place, ...job, ...check, '--invalidate=1'];
  return runProgram('fio', '--name=verify', ...words, '--number_ios=150', '--allow_file_create=0');
}

it.each([
  ['of a file that is the mountpoint', 'existing file', [], true],
  ['of a file that is the mountpoint, cached', 'existing file', [], false],
  ['without a cache', 'directory', ['--cache=none'], true],
  ['through the page cache', 'directory', ['--cache=writethrough'], false],
  ['with dirty pages in the kernel', 'directory', ['--cache=writeback'], false],
  ['of 64 KiB at most', 'directory', ['-o', 'max_read=65536'], true],
  ['with direct_io', 'directory', ['-o', 'direct_io'], false],
  ['with a trace', 'directory', ['-v'], true],
  ['with a time limit', 'directory', ['--timeout=5'], true],
] as const)(
  'read threads: read %s',
  async (_, form, options, direct) => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '64M');
    const disk = await mountDisk(scope, { server: [server.uri()], options: [...THREADS, ...options], form });
    const reading = startReading(scope, disk);
    await until('three threads', async () => (await statusOf(disk)).threads === 3, 50_000);
    await verify(disk, direct);
    await reading.kill('SIGINT');
    expect(await disk.stop()).toBe(0);
  },
  120_000,
);

it('read threads: read over TLS', async () => {
  const scope = createScope();
  const pki = makePki(scope.path('pki'));
  const server = await startNbdkit(scope, '--tls=require', `--tls-certificates=${pki}`, 'memory', '64M');
  const uri = `nbds+unix:///?socket=${server.socket}&tls-certificates=${pki}`;
  const disk = await mountDisk(scope, { server: [uri], options: THREADS });
  const reading = startReading(scope, disk);
  await until('three threads', async () => (await statusOf(disk)).threads === 3, 50_000);
  await verify(disk, true);
  await reading.kill('SIGINT');
  expect(await disk.stop()).toBe(0);
}, 120_000);

it('read threads: read a read-only disk', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, '-r', 'pattern', '64M');
  const disk = await mountDisk(scope, { server: [server.uri()], options: [...THREADS, '-r'] });
  const reading = startReading(scope, disk, '--readonly');
  await until('three threads', async () => (await statusOf(disk)).threads === 3, 50_000);
  const bytes = readFileSync(disk.file);
  for (let at = 0; at < bytes.length; at += 65_536) expect(bytes.readUInt32BE(at + 4)).toBe(at);
  await reading.kill('SIGINT');
  expect(await disk.stop()).toBe(0);
}, 120_000);

it('read threads: end when the kernel aborts the mount under load, and when it is unmounted lazily', async () => {
  for (const how of ['abort', 'lazy'] as const) {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '64M');
    const disk = await mountDisk(scope, { server: [server.uri()], options: THREADS, name: how });
    const reading = startReading(scope, disk);
    await until('three threads', async () => (await statusOf(disk)).threads === 3, 50_000);
    // With -f the kernel ends every request at once, wherever it is.
    await runProgram('umount', how === 'lazy' ? '-l' : '-f', disk.mountpoint).catch(() => undefined);
    await reading.kill('SIGKILL');
    await until('the end', () => disk.program.child.exitCode !== null, 20_000);
    if (how === 'abort') await runProgram('umount', '-l', disk.mountpoint).catch(() => undefined);
  }
}, 120_000);

it('read threads: the mount works without threads that cannot start', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '64M');
  const program = preloaded(
    scope,
    "if (require('node:worker_threads').threadId >= 2) throw new Error('no read thread');",
  );
  const disk = await mountDisk(scope, { server: [server.uri()], options: THREADS, program });
  const reading = startReading(scope, disk);
  await until('many reads', async () => (await statusOf(disk)).reads.count > 20_000, 50_000);
  await verify(disk, true);
  expect(reading.child.exitCode).toBe(null);
  await reading.kill('SIGINT');
  expect(await disk.stop()).toBe(0);
}, 120_000);
