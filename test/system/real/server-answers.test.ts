// Answers that are neither success nor failure of one request: a server that shuts down, a server that
// accepts only shorter requests than it announced, and ids of metadata contexts that differ between
// connections.

import { expect, it } from 'vitest';
import { EOVERFLOW, ESHUTDOWN } from '../../../src/constants/errno.js';
import { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';
import {
  answerAll,
  type ReplyWriter,
  type RequestHandler,
  startScriptedServer,
} from '../../support/scripted-server.js';

requirePrograms('fio', 'stat');

const MIB = 1024 * 1024;
const [READ, WRITE, DISC, STATUS] = [0, 1, 2, 7];
const HAS_FLAGS = 1;
const CAN_DF = 1 << 7;
const CAN_MULTI_CONN = 1 << 8;
const DF = 1 << 2;

it('NBD_ESHUTDOWN: ends in NBD_CMD_DISC, and the mount repeats the request on its next connection ("Terminating the transmission phase")', async () => {
  const scope = createScope();
  let refused = 0;
  const server = await startScriptedServer(
    scope,
    { size: BigInt(MIB), flags: HAS_FLAGS },
    (request, reply) => {
      if (request.type !== READ || request.connection > 0) return answerAll(request, reply);
      refused++;
      return reply.error(ESHUTDOWN);
    },
  );
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  expect((await readAt(disk.file, 65_536, 4096)).length).toBe(4096);
  expect(refused).toBe(1);
  const types = server.requests.filter(({ connection }) => connection === 0).map(({ type }) => type);
  expect(types.at(-1)).toBe(DISC);
  expect(server.clients.length).toBe(2);
});

it('NBD_EOVERFLOW: the mount and the library repeat the request in halves ("NBD_CMD_READ")', async () => {
  const scope = createScope();
  const content = Buffer.alloc(4 * MIB);
  const handler: RequestHandler = (request, reply) => {
    const at = Number(request.offset);
    if (request.length > 100_000 && request.type <= WRITE) return reply.error(EOVERFLOW);
    if (request.type === WRITE) request.payload.copy(content, at);
    if (request.type === READ) return reply.data(content.subarray(at, at + request.length));
    return answerAll(request, reply);
  };
  const server = await startScriptedServer(
    scope,
    { size: BigInt(content.length), structuredReplies: true },
    handler,
  );
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  const bytes = Buffer.from(Array.from({ length: MIB }, (_, i) => (i * 7) % 251));
  await writeAt(disk.file, bytes, 512);
  expect((await readAt(disk.file, 512, bytes.length)).equals(bytes)).toBe(true);
  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  await client.write(2 * MIB, bytes);
  expect((await client.read(2 * MIB, bytes.length)).equals(bytes)).toBe(true);
  expect((await client.read(512, bytes.length)).equals(bytes)).toBe(true);
});

it('NBD_EOVERFLOW of a whole reply: the mount and the library halve READs with NBD_CMD_FLAG_DF only ("Request flags")', async () => {
  const scope = createScope();
  const content = Buffer.from(Array.from({ length: 2 * MIB }, (_, i) => (i * 7) % 251));
  let drops = 1;
  const server = await startScriptedServer(
    scope,
    { size: BigInt(content.length), structuredReplies: true, flags: HAS_FLAGS | CAN_DF },
    (request, reply) => {
      const { type, flags, length, payload } = request;
      const at = Number(request.offset);
      if (type === WRITE) payload.copy(content, at);
      if (type !== READ) return answerAll(request, reply);
      if (length > MIB / 2 && drops-- > 0) return reply.drop();
      if ((flags & DF) !== 0 && length > 65_536) return reply.error(EOVERFLOW);
      return reply.data(content.subarray(at, at + length));
    },
  );
  const expected = Buffer.from(content);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  /** The longest request of a type with these flags that an act sends; a buffer of Node need not begin with a page. */
  const longest = async (
    wanted: number,
    wantedFlags: number,
    act: () => Promise<unknown>,
  ): Promise<number> => {
    const before = server.requests.length;
    await act();
    const sent = server.requests.slice(before);
    return Math.max(
      0,
      ...sent
        .filter(({ type, flags }) => type === wanted && flags === wantedFlags)
        .map(({ length }) => length),
    );
  };
  const read = async (): Promise<void> =>
    expect((await readAt(disk.file, 0, MIB)).equals(expected.subarray(0, MIB))).toBe(true);
  // The connection is lost, and the repeated READ asks for a whole reply.
  expect(await longest(READ, DF, read)).toBeGreaterThan(MIB / 2);
  expect(await longest(READ, 0, read)).toBeGreaterThan(MIB / 2);
  const write = (): Promise<void> => writeAt(disk.file, expected.subarray(0, MIB), 0);
  expect(await longest(WRITE, 0, write)).toBeGreaterThan(MIB / 2);

  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  const readWhole = async (): Promise<void> =>
    expect((await client.read(0, MIB, { df: true })).equals(expected.subarray(0, MIB))).toBe(true);
  expect(await longest(READ, DF, readWhole)).toBe(MIB);
  expect(await longest(READ, DF, readWhole)).toBe(65_536);
  expect(await longest(READ, 0, () => client.read(0, MIB))).toBe(MIB);
});

it('st_blksize: is the preferred block size ("Size constraints")', async () => {
  const scope = createScope();
  const served = { size: BigInt(MIB), blockSizes: [512, 65_536, MIB] as const };
  const server = await startScriptedServer(scope, served);
  const disk = await mountDisk(scope, { server: [server.uri] });
  expect(await runProgram('stat', '-c', '%o', disk.file)).toBe('65536\n');
});

it('connections: eight readers spread evenly over four', async () => {
  const scope = createScope();
  const held: { connection: number; answer: () => void }[] = [];
  let holding = true;
  const hold = (connection: number, answer: () => void): void => {
    if (holding) held.push({ connection, answer });
    else answer();
  };
  const served = { size: BigInt(64 * MIB), flags: HAS_FLAGS | CAN_MULTI_CONN };
  const server = await startScriptedServer(scope, served, (request, reply: ReplyWriter) => {
    if (request.type !== READ) return answerAll(request, reply);
    return hold(request.connection, () => reply.data(Buffer.alloc(request.length)));
  });
  const disk = await mountDisk(scope, { server: [server.uri], options: ['-C', '4', '--cache=none'] });
  await until('four connections', () => server.clients.length === 4);
  const words = [
    '--name=load',
    `--filename=${disk.file}`,
    '--size=64M',
    '--rw=randread',
    '--bs=4k',
    '--direct=1',
  ];
  const load = runProgram(
    'fio',
    ...words,
    '--numjobs=8',
    '--number_ios=1',
    '--allow_file_create=0',
    '--thread',
  );
  await until('eight READs', () => held.length === 8);
  const shares = [0, 1, 2, 3].map((number) => held.filter(({ connection }) => connection === number).length);
  holding = false;
  for (const { answer } of held) answer();
  await load;
  expect(shares).toEqual([2, 2, 2, 2]);
});

it('metadata contexts: each connection has its own context number ("NBD_OPT_SET_META_CONTEXT")', async () => {
  const scope = createScope();
  let next = 10;
  const served = {
    size: BigInt(MIB),
    flags: HAS_FLAGS | CAN_MULTI_CONN,
    structuredReplies: true,
    get metaContexts() {
      return { 'base:allocation': next++ };
    },
  };
  const server = await startScriptedServer(scope, served, (request, reply) =>
    request.type === STATUS
      ? reply.status(reply.agreed.contexts[0] ?? 0, [[request.length, 3]], true)
      : answerAll(request, reply),
  );
  const client = await NbdClient.connect({ unix: server.socketPath }, { connections: 4 });
  scope.add(() => client.close());
  await Promise.all(Array.from({ length: 8 }, () => client.blockStatus(0, MIB)));
  expect(new Set(server.requests.map(({ connection }) => connection)).size).toBe(4);
  const disk = await mountDisk(scope, { server: [server.uri] });
  await runProgram('cp', '--sparse=always', disk.file, scope.path('copy'));
  expect(server.requests.filter(({ type }) => type === READ)).toEqual([]);
  expect(new Set(server.clients.map(({ contexts }) => contexts[0])).size).toBe(server.clients.length);
});
