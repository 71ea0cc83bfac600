// The status names the reason for which requests and new connections wait, and the place.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { Status } from '../../../src/worker/contract/status.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { whenConnected } from '../../support/connected.js';
import { openFile } from '../../support/files.js';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from '../../support/nbd-numbers.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';
import { type ScriptedServer, startScriptedServer } from '../../support/scripted-server.js';
import { MULTI_CONN_FLAGS, VolatileDisk } from '../../support/volatile-disk.js';

requirePrograms('getfattr');

const MIB = 1024 * 1024;
const BLOCK = 65_536;

const run = promisify(execFile);

async function textOf({ mountpoint }: MountedDisk): Promise<string> {
  return (await run(process.execPath, [NBDFUSE, '--status', mountpoint])).stdout;
}

async function statusOf({ mountpoint }: MountedDisk): Promise<Status> {
  const { stdout } = await run(process.execPath, [NBDFUSE, '--status', '--json', mountpoint]);
  const { files }: { files: Status[] } = JSON.parse(stdout);
  return files[0];
}

/** Waits until the status has these waits and no others, and returns it. */
async function whenWaits(disk: MountedDisk, ...waits: readonly object[]): Promise<Status> {
  let status = await statusOf(disk);
  await until(`the waits ${JSON.stringify(waits)}`, async () => {
    status = await statusOf(disk);
    return JSON.stringify(status.waits) === JSON.stringify(waits);
  }).catch(() => undefined);
  expect(status.waits).toEqual(waits);
  return status;
}

/** A server that delays requests of the types in `held` until the test releases them. */
interface Delaying {
  readonly model: VolatileDisk;
  readonly server: ScriptedServer;
  readonly held: Set<number>;
  /** Answers the delayed requests, and later ones at once: those of a type, or all. */
  release(only?: number): void;
}

async function startDelaying(scope: Scope): Promise<Delaying> {
  const model = new VolatileDisk(MIB);
  const held = new Set<number>();
  let delayed: { readonly type: number; answer(): void }[] = [];
  const served = { size: 1_048_576n, flags: MULTI_CONN_FLAGS };
  const server = await startScriptedServer(scope, served, (request, reply) => {
    if (held.has(request.type))
      delayed.push({ type: request.type, answer: () => model.handle(request, reply) });
    else model.handle(request, reply);
  });
  const release = (only?: number): void => {
    const isReleased = (type: number): boolean => only === undefined || type === only;
    for (const type of [...held].filter(isReleased)) held.delete(type);
    const released = delayed.filter(({ type }) => isReleased(type));
    delayed = delayed.filter(({ type }) => !isReleased(type));
    for (const { answer } of released) answer();
  };
  return { model, server, held, release };
}

it('status: a read and a write that wait for an older write in flight', async () => {
  const scope = createScope();
  const { server, held, release } = await startDelaying(scope);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none', '-C', '1'] });
  scope.add(() => release());
  const file = await openFile(scope, disk.file, 'r+');
  held.add(NBD_CMD_WRITE);
  const older = file.write(Buffer.alloc(BLOCK, 'A'), 0, BLOCK, BLOCK);
  await until('the write', () => server.requests.some(({ type }) => type === NBD_CMD_WRITE));
  const newer = openFile(scope, disk.file, 'r+').then((other) =>
    other.write(Buffer.alloc(4096, 'B'), 0, 4096, BLOCK),
  );
  const reading = file.read(Buffer.alloc(4096), 0, 4096, BLOCK + 4096);
  const overlap = { reason: 'overlap', count: 2, start: `${BLOCK}`, end: `${2 * BLOCK}` };
  const status = await whenWaits(disk, overlap);
  expect(status).toMatchObject({ blockedByOverlap: 2, blockedByProof: 0, unresolvedWrites: 0 });
  expect(await textOf(disk)).toContain(
    `\n  waiting      2 requests for an older one, bytes 65536 to 131072\n`,
  );
  release();
  await Promise.all([older, newer, reading]);
  await whenWaits(disk);
});

it('status: a write that waits for proof about an older write on a lost connection', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  let isDropped = false;
  const served = { size: 1_048_576n, flags: MULTI_CONN_FLAGS };
  const server = await startScriptedServer(scope, served, (request, reply) => {
    if (request.type !== NBD_CMD_WRITE || isDropped) return model.handle(request, reply);
    isDropped = true;
    reply.drop();
  });
  const options = ['--cache=none', '-C', '1', '--settle-time=10'];
  const disk = await mountDisk(scope, { server: [server.uri], options });
  const files = await Promise.all([1, 2, 3].map(() => openFile(scope, disk.file, 'r+')));
  const write = (i: number): Promise<unknown> => files[i].write(Buffer.alloc(4096, 'ABC'[i]), 0, 4096, 8192);
  await write(0);
  expect(await statusOf(disk)).toMatchObject({ waits: [], blockedByProof: 0, unresolvedWrites: 1 });
  const newer = write(1);
  await until('the newer write to wait', async () => (await statusOf(disk)).blockedByProof === 1);
  const newest = write(2);
  await until('the newest write to wait', async () => (await statusOf(disk)).blockedByOverlap === 1);
  const status = await statusOf(disk);
  expect(status).toMatchObject({ blockedByOverlap: 1, blockedByProof: 1, unresolvedWrites: 1 });
  const bytes = { start: '8192', end: '12288' };
  const secondsLeft = expect.any(Number);
  expect(status.waits).toEqual([
    { reason: 'overlap', count: 1, ...bytes },
    { reason: 'proof', count: 1, ...bytes, secondsLeft },
  ]);
  expect(status.waits[1].secondsLeft).toBeGreaterThan(10);
  expect(status.waits[1].secondsLeft).toBeLessThanOrEqual(30);
  const text = await textOf(disk);
  expect(text).toMatch(
    /\n {2}waiting {6}1 request for proof about a lost write, bytes 8192 to 12288; EIO in \d\d s\n/,
  );
  expect(text).toContain('\n  lost         1 write on lost connections, which the server may still make\n');
  await Promise.all([newer, newest]);
  await whenWaits(disk);
});

it('status: requests and new connections that wait for a server that comes back', async () => {
  const scope = createScope();
  const { server, held, release } = await startDelaying(scope);
  const options = ['--cache=none', '-C', '2'];
  const disk = await mountDisk(scope, { server: [server.uri], options });
  scope.add(() => release());
  await whenConnected(disk, options);
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.alloc(BLOCK, 'F'), 0, BLOCK, 0);
  await file.sync();
  await file.write(Buffer.alloc(BLOCK, 'U'), 0, BLOCK, BLOCK);
  server.die();
  const reading = file.read(Buffer.alloc(4096), 0, 4096, 0);
  await until('the read to wait', async () => (await statusOf(disk)).waits.length === 1);
  const { waits } = await statusOf(disk);
  expect(waits).toEqual([{ reason: 'connection', count: 1, seconds: expect.any(Number) }]);
  expect(await textOf(disk)).toMatch(/\n {2}waiting {6}1 request for a connection, lost \d+ s ago\n/);
  for (const type of [NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH]) held.add(type);
  await server.listen();
  const waitsOf = async (reason: string): Promise<unknown> =>
    (await statusOf(disk)).waits.find((wait) => wait.reason === reason);
  await until('the identity checks', async () => (await waitsOf('identity')) !== undefined);
  release(NBD_CMD_READ);
  await until('the replay', async () => (await waitsOf('replay')) !== undefined);
  expect(await waitsOf('replay')).toEqual({ reason: 'replay', count: 1, total: 1 });
  release(NBD_CMD_WRITE);
  await until('the FLUSH', async () => (await waitsOf('flush')) !== undefined);
  expect(await waitsOf('flush')).toEqual({ reason: 'flush', count: 1 });
  release();
  await reading;
  await whenWaits(disk);
});
