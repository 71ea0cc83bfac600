// The client's rules of doc/proto.md, checked on every request that a mount and a library client send.
//
// Both use each export of the list with every command, allowed or not. For each rule, a request that breaks it
// shows that the check can fail.

import { beforeAll, describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { CLIENT_RULES, type Observed, watch } from '../../support/client-rules.js';
import { openFile, readAt } from '../../support/files.js';
import { tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { Scope } from '../../support/run/scope.js';
import type { ScriptedExport } from '../../support/scripted-handshake.js';
import {
  answerAll,
  type RequestHandler,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';

const MIB = 1024 * 1024;
const CONTEXTS = { 'base:allocation': 3, 'x-test:other': 4 };
/** All flags but READ_ONLY and SEND_RESIZE. */
const EVERYTHING = 0b1_1101_1111_1101;

const EXPORTS: Readonly<Record<string, ScriptedExport>> = {
  'nothing but reading and writing': { size: BigInt(MIB), flags: 1 },
  'everything, with structured replies': {
    size: BigInt(MIB + 512),
    flags: EVERYTHING,
    structuredReplies: true,
    metaContexts: CONTEXTS,
    blockSizes: [512, 4096, 65_536],
  },
  'everything, with extended headers': {
    size: BigInt(MIB + 100),
    flags: EVERYTHING,
    extendedHeaders: true,
    metaContexts: CONTEXTS,
  },
  'a size that is no multiple of its blocks': {
    size: BigInt(MIB + 1000),
    flags: EVERYTHING,
    structuredReplies: true,
    metaContexts: CONTEXTS,
    blockSizes: [4096, 4096, 65_536],
  },
  'large blocks only': {
    size: BigInt(2 * MIB),
    flags: 0b10_0110_1101,
    structuredReplies: true,
    blockSizes: [65_536, 65_536, 65_536],
  },
  'structured replies, but no context': { size: BigInt(MIB), structuredReplies: true, flags: 0b1000_0101 },
  'reading only': { size: BigInt(MIB), flags: 0b11, structuredReplies: true },
};

/** Every command of a library client; it may refuse some. */
async function useLibrary(server: ScriptedServer): Promise<void> {
  const client = await NbdClient.connect(
    { unix: server.socketPath },
    { metaContexts: Object.keys(CONTEXTS) },
  );
  const size = Number(client.size);
  const bytes = Buffer.alloc(300_000, 'x');
  await Promise.allSettled([
    client.read(0, 0),
    client.read(1, 200_000),
    client.read(size - 5, 5, { df: true }),
    client.read(0, 4096, { df: true }),
    client.write(12_345, bytes),
    client.write(size - 700, Buffer.alloc(700), { fua: true }),
    client.write(0, Buffer.alloc(0)),
    client.zero(1000, 150_000, { fua: true, noHole: true }),
    client.zero(0, size, { fastZero: true }),
    client.zero(0, size),
    client.trim(0, size, { fua: true }),
    client.trim(100, 5),
    client.cache(3, 200_000),
    client.flush(),
    client.blockStatus(0, size),
    client.blockStatus(7, 1000, { one: true }),
    client.blockStatus(0, size, { contexts: ['x-test:other'] }),
  ]);
  await client.close();
}

/** Every operation on a file that the disk permits. */
async function useMount(scope: Scope, server: ScriptedServer): Promise<void> {
  const disk = await mountDisk(scope, { server: [server.uri] });
  const size = Number(server.served.size);
  await readAt(disk.file, 0, size);
  await readAt(disk.file, size - 3, 10);
  await tryProgram('dd', `if=${disk.file}`, 'of=/dev/null', 'bs=1M', 'iflag=direct');
  // Queries holes first.
  await tryProgram('cp', '--sparse=auto', disk.file, scope.path('copy'));
  const handle = await openFile(scope, disk.file, 'r+').catch(() => undefined);
  if (handle !== undefined) {
    await handle.write(Buffer.alloc(300_000, 'y'), 0, 300_000, 54_321);
    await handle.write(Buffer.alloc(50, 'z'), 0, 50, size - 50);
    await handle.sync();
    await handle.close();
    for (const how of ['-p', '-z'])
      await tryProgram('fallocate', how, '-o', '777', '-l', '400000', disk.file);
    const words = ['if=/dev/zero', `of=${disk.file}`, 'conv=notrunc', 'bs=4096', 'count=2'];
    await tryProgram('dd', ...words, 'oflag=direct,dsync');
    await tryProgram('dd', ...words, 'oflag=sync');
  }
  expect(await disk.stop()).toBe(0);
}

const seen: Observed[] = [];

beforeAll(async () => {
  const scope = new Scope();
  try {
    for (const [name, served] of Object.entries(EXPORTS)) {
      const place = new Scope();
      scope.add(() => place.close());
      const answer: RequestHandler = (request, reply) =>
        // A server refuses writes to a read-only export.
        (served.flags ?? 0) & 0b10 && request.type === 1 ? reply.error(1) : answerAll(request, reply);
      const server = await startScriptedServer(place, served, watch(served, seen, answer));
      await useLibrary(server);
      await useMount(place, server);
      const goodbyes = server.requests.filter(({ type }) => type === 2);
      expect(goodbyes.length, `${name}: NBD_CMD_DISC`).toBe(server.clients.length);
      const agreed = { exportName: '', structured: false, extended: false, contexts: [] };
      for (const request of goodbyes) seen.push({ request, served, agreed, cookieInUse: false });
    }
  } finally {
    await scope.close();
  }
}, 120_000);

/** A request that no rule forbids; `breach` changes some fields. */
function breaking({ request, served }: (typeof CLIENT_RULES)[number]['breach']): Observed {
  const harmless = { connection: 0, flags: 0, type: 0, cookie: 1n, offset: 0n, length: 4096 };
  return {
    request: { ...harmless, payload: Buffer.alloc(0), ...request },
    served: { size: BigInt(64 * MIB), ...served },
    agreed: { exportName: '', structured: false, extended: false, contexts: [] },
    cookieInUse: request.cookie === 99n,
  };
}

const shown = ({ request, served }: Observed): string =>
  JSON.stringify({ ...request, payload: request.payload.length, served }, (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );

describe('mount and library keep the rule', () => {
  it.each(CLIENT_RULES)('$title', ({ applies, holds, breach }) => {
    const concerned = seen.filter(applies);
    expect(concerned.length).toBeGreaterThan(0);
    expect(concerned.filter((one) => !holds(one)).map(shown)).toEqual([]);
    const broken = breaking(breach);
    expect([applies(broken), holds(broken)]).toEqual([true, false]);
  });
});

it('client rules: the tests send every command of the document', () => {
  expect([...new Set(seen.map(({ request }) => request.type))].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

describe('metadata contexts of an extended server with NBD_FLAG_BLOCK_STATUS_PAYLOAD', () => {
  it('are requested by their numbers, and only the needed ones', async () => {
    const scope = createScope();
    const served = EXPORTS['everything, with extended headers'];
    const payloads: string[] = [];
    const server = await startScriptedServer(scope, served, (request, reply) => {
      payloads.push(`${request.length} ${request.payload.toString('hex')}`);
      const ids = request.payload.length > 0 ? [request.payload.readUInt32BE(8)] : reply.agreed.contexts;
      ids.forEach((id, i) => {
        reply.status(id, [[Number(served.size), id]], i === ids.length - 1);
      });
    });
    const client = await NbdClient.connect(
      { unix: server.socketPath },
      { metaContexts: Object.keys(CONTEXTS) },
    );
    scope.add(() => client.close());
    const found = await client.blockStatus(0, served.size, { contexts: ['x-test:other'] });
    expect(found).toEqual({ 'x-test:other': [{ offset: 0n, length: served.size, flags: 4 }] });
    await client.blockStatus(0, served.size);
    // Effect length and one number of a context; then a question for all, without a payload.
    expect(payloads).toEqual([
      `12 ${Number(served.size).toString(16).padStart(16, '0')}00000004`,
      `${served.size} `,
    ]);
  });
});
