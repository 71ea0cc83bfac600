// A server that is alive and does not answer (SIGSTOP): programs can be interrupted, nbdfuse can be stopped,
// and with --timeout it is given up like a lost one.

import { release } from 'node:os';
import { expect, it } from 'vitest';
import { isSince } from '../../../src/linux/kernel.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, writeAt } from '../../support/files.js';
import { type Hanging, mountHanging, whenWaiting } from '../../support/hanging.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'dd', 'getfattr');

const MIB = 1024 * 1024;

/** The limit of a stop: ten seconds and a little. */
const STOP_LIMIT = 12_000;

/** Mounts, and freezes the server. */
async function mountFrozen(scope: Scope, ...options: readonly string[]): Promise<Hanging> {
  const hanging = await mountHanging(scope, ...options);
  // The first change would read samples on several connections. nbdkit may abort if they close before its replies.
  const file = await openFile(scope, hanging.disk.file, 'r+');
  await file.write(Buffer.alloc(512, 1), 0, 512, 15 * 1024 * 1024);
  await file.sync();
  await file.close();
  await hanging.freeze();
  return hanging;
}

/** dd, as started at a terminal; it ends before the mount. */
function dd(scope: Scope, { thaw }: Hanging, ...words: readonly string[]): Program {
  const program = new Program(scope, 'env', ['--default-signal', 'dd', ...words]);
  // A program that waits until the server accepts its writes cannot even be killed.
  scope.add(thaw);
  return program;
}

/** Waits for an answer, or for a page of its file. */
const ANYHOW = /fuse|folio|request_wait/;

const READS: [string, string, string[]][] = [
  ['a direct read', 'if', ['bs=4k', 'iflag=direct', 'of=/dev/null']],
  ['a read through the page cache', 'if', ['bs=64k', 'of=/dev/null']],
  ['a direct write', 'of', ['bs=4k', 'oflag=direct', 'conv=notrunc', 'if=/dev/zero']],
];
const SIGNALS: NodeJS.Signals[] = ['SIGTERM', 'SIGKILL'];

it.each(
  READS.flatMap((row) =>
    SIGNALS.map((signal): [string, NodeJS.Signals, string, string[]] => [row[0], signal, row[1], row[2]]),
  ),
)('hung server: %s ends at %s at once', async (_, signal, operand, words) => {
  const scope = createScope();
  const frozen = await mountFrozen(scope);
  const program = dd(scope, frozen, `${operand}=${frozen.disk.file}`, ...words);
  await whenWaiting(program, ANYHOW);
  const start = performance.now();
  expect(await program.kill(signal)).toBe(signal);
  expect(performance.now() - start).toBeLessThan(2000);
});

/** Writes 20 MiB into the page cache of a mount whose server hangs, and returns where. */
async function dirty(scope: Scope, frozen: Hanging): Promise<string> {
  const words = ['if=/dev/zero', 'bs=1M', 'count=20', 'seek=3', 'conv=notrunc'];
  const writer = dd(scope, frozen, `of=${frozen.disk.file}`, ...words);
  // close(2) writes everything.
  await whenWaiting(writer, /folio_wait/);
  return `${20 * MIB} bytes are not on the server's disk (timeout): offset ${3 * MIB} length ${20 * MIB}`;
}

it('hung server: SIGTERM and unmounting end within ten seconds and report unwritten data', async () => {
  const [scope, other] = [createScope(), createScope()];
  const [buffered, direct] = [await mountFrozen(scope), await mountFrozen(other, '--cache=none')];
  const lost = await dirty(scope, buffered);
  direct.thaw();
  await writeAt(direct.disk.file, Buffer.alloc(65_536, 'x'), 4096);
  await direct.freeze();
  const start = performance.now();
  const stopping = buffered.disk.stop();
  await runProgram('umount', direct.disk.mountpoint);
  expect(await stopping).toBe(1);
  expect(buffered.disk.stderr).toContain(lost);
  expect(await direct.disk.program.ended).toBe(1);
  expect(direct.disk.stderr).toContain("65536 bytes are not on the server's disk (timeout): offset 4096");
  expect(performance.now() - start).toBeLessThan(STOP_LIMIT);
});

/** Linux 6.15 tells how a process that is not a child has ended. */
const TELLS = isSince(release(), 6, 15);

it('hung server: --unmount fails at once while a program waits for its writes, and names fuser', async () => {
  const scope = createScope();
  const frozen = await mountFrozen(scope);
  await dirty(scope, frozen);
  const { mountpoint, file } = frozen.disk;
  const start = performance.now();
  expect(await tryProgram('node', NBDFUSE, '--unmount', mountpoint)).toEqual({
    status: 1,
    stdout: '',
    stderr: `nbdfuse: cannot unmount ${mountpoint}: target is busy; fuser -vm ${mountpoint} shows which programs use it\n`,
  });
  expect(performance.now() - start).toBeLessThan(STOP_LIMIT);
  // It has changed nothing.
  frozen.thaw();
  const bytes = await openFile(scope, file, 'r');
  expect((await bytes.read(Buffer.alloc(512), 0, 512, 15 * MIB)).bytesRead).toBe(512);
});

it('hung server: --unmount fails when nbdfuse has given up bytes', async () => {
  const scope = createScope();
  const { disk, freeze, thaw } = await mountFrozen(scope, '--cache=none');
  thaw();
  await writeAt(disk.file, Buffer.alloc(65_536, 'x'), 4096);
  await freeze();
  const { status, stderr } = await tryProgram('node', NBDFUSE, '--unmount', disk.mountpoint);
  expect(await disk.program.ended).toBe(1);
  expect(disk.stderr).toContain("65536 bytes are not on the server's disk (timeout)");
  const { mountpoint, program } = disk;
  const waits = `nbdfuse: ${mountpoint} is unmounted; waiting until process ${program.pid} has ended\n`;
  const fails =
    `nbdfuse: ${mountpoint} is unmounted, but process ${program.pid} ended with status 1: ` +
    'the server may not have all data; its messages say why\n';
  expect([status, stderr]).toEqual(TELLS ? [1, waits + fails] : [0, waits]);
});

it('hung server: a second signal ends at once', async () => {
  const scope = createScope();
  const frozen = await mountFrozen(scope, '--cache=none');
  const { disk } = frozen;
  const writer = dd(scope, frozen, `of=${disk.file}`, 'if=/dev/zero', 'bs=64k', 'conv=notrunc');
  await whenWaiting(writer, ANYHOW);
  const start = performance.now();
  const ended = disk.stop();
  disk.program.child.kill('SIGINT');
  expect(await ended).toBe(1);
  expect(performance.now() - start).toBeLessThan(5000);
  expect(disk.stderr).toContain("65536 bytes are not on the server's disk");
});

it('--timeout: gives up a silent server, and continues when it answers again', async () => {
  const scope = createScope();
  const { disk, thaw } = await mountFrozen(scope, '--timeout=0.5', '--cache=none');
  const file = await openFile(scope, disk.file, 'r+');
  scope.add(thaw);
  const written = file.write(Buffer.alloc(4096, 'x'), 0, 4096, 0);
  await disk.program.says(/the server is lost: the server has not answered for 0\.5 s; reconnecting/);
  thaw();
  await written;
  const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
  expect(buffer.equals(Buffer.alloc(4096, 'x'))).toBe(true);
  await disk.program.says(/reconnected after/);
});

it('--timeout with --reconnect: requests fail with EIO until the server answers again', async () => {
  const scope = createScope();
  const { disk, thaw } = await mountFrozen(scope, '--timeout=0.3', '--reconnect=0.5', '--cache=none');
  const file = await openFile(scope, disk.file, 'r+');
  scope.add(thaw);
  await expect(file.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toMatchObject({ code: 'EIO' });
  thaw();
  await disk.program.says(/reconnected after/);
  expect((await file.read(Buffer.alloc(4096), 0, 4096, 0)).bytesRead).toBe(4096);
});
