// Requests without payload on a disk of 10 GiB: one request beyond 4 GiB with headers of 64 bits, a split one
// with 32 bits, and parts of the largest payload for a server that refuses longer ones.

import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES } from '../../support/nbd-numbers.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { answerAll, type RequestHandler, startScriptedServer } from '../../support/scripted-server.js';

requirePrograms('fallocate', 'cp');

const GIB = 2 ** 30;
const SIZE = 10 * GIB;
const MAXIMUM = 32 * 2 ** 20;
const CONTEXTS = { 'base:allocation': 1 };
const HEADERS: [string, { extendedHeaders?: boolean; structuredReplies?: boolean }][] = [
  ['64', { extendedHeaders: true }],
  ['32', { structuredReplies: true }],
];

/** All zeros, and short replies to BLOCK_STATUS. */
const empty: RequestHandler = (request, reply) =>
  request.type === NBD_CMD_BLOCK_STATUS
    ? reply.status(1, [[request.length, 3]], true)
    : answerAll(request, reply);

it.each(HEADERS)('long requests: zeroes and holes with headers of %s bits', async (bits, grants) => {
  const scope = createScope();
  const served = { size: BigInt(SIZE), metaContexts: CONTEXTS, ...grants };
  const server = await startScriptedServer(scope, served, empty);
  const disk = await mountDisk(scope, { server: [server.uri] });
  await runProgram('fallocate', '-p', '-o', String(GIB), '-l', String(7 * GIB), disk.file);
  await runProgram('cp', '--sparse=always', disk.file, scope.path('copy'));
  const lengths = (type: number): number[] =>
    server.requests.filter((request) => request.type === type).map(({ length }) => length);
  const zeroed = lengths(NBD_CMD_WRITE_ZEROES);
  expect(zeroed.reduce((sum, length) => sum + length, 0)).toBe(7 * GIB);
  expect(zeroed.length).toBe(bits === '64' ? 1 : 7);
  const asked = lengths(NBD_CMD_BLOCK_STATUS);
  expect(Math.max(...asked)).toBe(bits === '64' ? SIZE : 0xffff_0000);
  // Only holes: nbdfuse reads no byte except the samples for the identity, before the first change.
  expect(lengths(0)).toEqual([512, 512, 512]);
  execFileSync('rm', [scope.path('copy')]);
});

it.each(HEADERS)('long requests: commands of the library with headers of %s bits', async (bits, grants) => {
  const scope = createScope();
  const served = { size: BigInt(SIZE), metaContexts: CONTEXTS, ...grants };
  const server = await startScriptedServer(scope, served, empty);
  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  await client.trim(0, SIZE);
  await client.zero(0, SIZE);
  const { 'base:allocation': extents } = await client.blockStatus(0, SIZE);
  expect(extents).toEqual([{ offset: 0n, length: BigInt(SIZE), flags: 3 }]);
  for (const type of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS]) {
    const lengths = server.requests.filter((request) => request.type === type).map(({ length }) => length);
    const compact = type === NBD_CMD_BLOCK_STATUS ? 3 : 10;
    expect(lengths.length).toBe(bits === '64' ? 1 : compact);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(SIZE);
    expect(lengths.every((length) => bits === '64' || length % 512 === 0)).toBe(true);
  }
});

it.each([
  ['NBD_EOVERFLOW', 75],
  ['NBD_EINVAL', 22],
])(
  'long requests: beyond the largest payload, and refused with %s, they go out in parts of that size',
  async (_, error) => {
    const scope = createScope();
    const done = new Map<number, number>();
    const server = await startScriptedServer(scope, { size: BigInt(SIZE) }, (request, reply) => {
      if (request.type !== NBD_CMD_TRIM && request.type !== NBD_CMD_WRITE_ZEROES)
        return answerAll(request, reply);
      if (request.length > MAXIMUM) return reply.error(error);
      done.set(request.type, (done.get(request.type) ?? 0) + request.length);
      return reply.ok();
    });
    const disk = await mountDisk(scope, { server: [server.uri] });
    await runProgram('fallocate', '-z', '-o', '4096', '-l', String(2 * GIB), disk.file);
    expect(done.get(NBD_CMD_WRITE_ZEROES)).toBe(2 * GIB);
    // The mount does not try a longer one again.
    server.requests.length = 0;
    await runProgram('fallocate', '-z', '-o', '4096', '-l', String(GIB), disk.file);
    const again = server.requests.filter(({ type }) => type === NBD_CMD_WRITE_ZEROES);
    expect(again.filter(({ length }) => length > MAXIMUM)).toEqual([]);
    done.clear();
    const client = await NbdClient.connect({ unix: server.socketPath });
    scope.add(() => client.close());
    await client.zero(0, 2 * GIB);
    await client.trim(0, 2 * GIB);
    expect([...done]).toEqual([
      [NBD_CMD_WRITE_ZEROES, 2 * GIB],
      [NBD_CMD_TRIM, 2 * GIB],
    ]);
  },
);

it('long requests: a refusal for another reason than the length is the error of the call', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: BigInt(SIZE) }, (request, reply) =>
    request.type === NBD_CMD_WRITE_ZEROES ? reply.error(22) : answerAll(request, reply),
  );
  const disk = await mountDisk(scope, { server: [server.uri] });
  await expect(runProgram('fallocate', '-z', '-l', String(2 * GIB), disk.file)).rejects.toThrow(
    'Invalid argument',
  );
  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  await expect(client.zero(0, 2 * GIB)).rejects.toMatchObject({ errno: 22 });
});

it('long requests: a refused tail block is not repeated, and neither are the blocks before it', async () => {
  const scope = createScope();
  const size = 2 * GIB + 100;
  const served = { size: BigInt(size), blockSizes: [512, 4096, MAXIMUM] as const };
  const server = await startScriptedServer(scope, served, (request, reply) =>
    request.length % 512 === 0 ? answerAll(request, reply) : reply.error(22),
  );
  const zeroed = (): number[] =>
    server.requests.filter(({ type }) => type === NBD_CMD_WRITE_ZEROES).map(({ length }) => length);
  const disk = await mountDisk(scope, { server: [server.uri] });
  await expect(runProgram('fallocate', '-z', '-l', String(size), disk.file)).rejects.toThrow(
    'Invalid argument',
  );
  expect(zeroed()).toEqual([GIB, GIB, 100]);
  server.requests.length = 0;
  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  await expect(client.zero(0, size)).rejects.toMatchObject({ errno: 22 });
  expect(zeroed()).toEqual([GIB, GIB, 100]);
});

it('long requests: the mount zeroes more than 2^53 bytes, up to the last byte', async () => {
  const scope = createScope();
  const length = 2n ** 53n + 1n;
  const served = { size: 2n ** 60n, extendedHeaders: true, blockSizes: [1, 4096, MAXIMUM] as const };
  const server = await startScriptedServer(scope, served);
  const disk = await mountDisk(scope, { server: [server.uri] });
  await runProgram('fallocate', '-p', '-o', '3', '-l', String(length), disk.file);
  const zeroed = server.requests.filter(({ type }) => type === NBD_CMD_WRITE_ZEROES);
  expect(zeroed.reduce((sum, request) => sum + BigInt(request.length), 0n)).toBe(length);
  expect(zeroed.length).toBe(9);
});
