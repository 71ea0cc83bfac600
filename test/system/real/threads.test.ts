// Read threads on clones of the device: a lost connection of a read thread affects neither programs nor data.

import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startReading, statusOf, withEightProcessors } from '../../support/reading.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { type RealServer, startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fio');

/** Connections of the first thread, so that the others' have higher numbers. */
const CONNECTIONS = 2;
const THREADS = ['--threads=3', '-C', String(CONNECTIONS)];

/** Milliseconds. */
const PATIENCE = 50_000;

/** Resolves when a read thread has requests in flight. */
async function whenHelped(disk: MountedDisk): Promise<void> {
  const isHelped = async (): Promise<boolean> => {
    const { connections } = await statusOf(disk);
    return connections.some(({ number, inFlight }) => number >= CONNECTIONS && inFlight > 0);
  };
  // On a busy machine the server may be so slow that one thread suffices for a while.
  await until('a further thread to read', isHelped, PATIENCE);
}

/** Writes the second 32 MiB and reads them again, all the time. */
function verify({ file }: MountedDisk): Promise<string> {
  const place = ['--offset=32M', '--size=8M', '--offset_increment=8M', '--numjobs=4', '--thread'];
  const job = ['--rw=randwrite', '--bs=4k', '--direct=1', '--verify=crc32c', '--verify_backlog=32'];
  const words = [`--filename=${file}`, ...place, ...job, '--verify_fatal=1', '--verify_state_save=0'];
  return runProgram('fio', '--name=verify', ...words, '--number_ios=1500', '--allow_file_create=0');
}

/** Of the file that the first one makes. */
async function serveFile(scope: Scope): Promise<RealServer> {
  const file = scope.path('disk.raw');
  if (!existsSync(file)) writeFileSync(file, '');
  truncateSync(file, 64 * 1024 * 1024);
  return startNbdkit(scope, 'file', file);
}

it('read threads: write and read the right data', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '64M');
  const disk = await mountDisk(scope, { server: [server.uri()], options: THREADS });
  const reading = startReading(scope, disk);
  await whenHelped(disk);
  await verify(disk);
  const before = (await statusOf(disk)).reads.count;
  await until('reads to go on', async () => (await statusOf(disk)).reads.count > before + 1000);
  await reading.kill('SIGINT');
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
});

it('read threads: reconnect after a lost server without an error', async () => {
  const scope = createScope();
  let server = await serveFile(scope);
  const disk = await mountDisk(scope, { server: [server.uri()], options: THREADS });
  const reading = startReading(scope, disk);
  for (let i = 0; i < 3; i++) {
    await whenHelped(disk);
    const verified = verify(disk);
    await server.program.kill('SIGKILL');
    server = await serveFile(scope);
    await verified;
  }
  expect(reading.child.exitCode).toBe(null);
  await reading.kill('SIGINT');
  expect(await disk.stop()).toBe(0);
}, 120_000);

it('read threads: free a killed program that waits for a hung server', async () => {
  const scope = createScope();
  const { program, uri } = await serveFile(scope);
  const disk = await mountDisk(scope, { server: [uri()], options: THREADS });
  const reading = startReading(scope, disk);
  await whenHelped(disk);
  program.child.kill('SIGSTOP');
  scope.add(() => void program.child.kill('SIGCONT'));
  await until('all of fio to wait', async () => {
    const { connections } = await statusOf(disk);
    return connections.reduce((sum, { inFlight }) => sum + inFlight, 0) >= 8;
  });
  const start = performance.now();
  await reading.kill('SIGKILL');
  expect(performance.now() - start).toBeLessThan(5000);
});

it('read threads: forward their requests to the worker when the mount ends under load', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '64M');
  const disk = await mountDisk(scope, { server: [server.uri()], options: THREADS });
  startReading(scope, disk);
  await whenHelped(disk);
  expect(await disk.stop()).toBe(0);
});

it.each([
  ['-s', ['-s'], []],
  ['no --threads, on eight processors', [], []],
  ['a server that allows one connection', THREADS, ['--filter=multi-conn']],
])('read threads: do not start with %s', async (_, options, filters) => {
  const scope = createScope();
  const mode = filters.length > 0 ? ['multi-conn-mode=disable'] : [];
  const server = await startNbdkit(scope, ...filters, 'memory', '64M', ...mode);
  const program = withEightProcessors(scope);
  const disk = await mountDisk(scope, { server: [server.uri()], options: [...options, '-v'], program });
  const reading = startReading(scope, disk);
  await until('many reads', async () => (await statusOf(disk)).reads.count > 20_000, PATIENCE);
  expect((await statusOf(disk)).threads).toBe(1);
  await reading.kill('SIGINT');
  expect(disk.stderr).not.toContain('read thread');
});
