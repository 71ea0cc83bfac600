import { stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { NBD_CMD_DISC, NBD_CMD_READ, NBD_CMD_WRITE } from '../../support/nbd-numbers.js';
import { runShell } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import type { ScriptedExport } from '../../support/scripted-handshake.js';
import { answerAll, type ReplyWriter, startScriptedServer } from '../../support/scripted-server.js';
import type { ScriptedRequest } from '../../support/scripted-wire.js';

const MIB = 1024 * 1024;

/** A handler that stores written bytes. */
function storeIn(disk: Buffer) {
  return (request: ScriptedRequest, reply: ReplyWriter): void => {
    const at = Number(request.offset);
    if (request.type === NBD_CMD_WRITE) request.payload.copy(disk, at);
    if (request.type === NBD_CMD_READ) reply.data(disk.subarray(at, at + request.length));
    else answerAll(request, reply);
  };
}

const GRANTS: [string, Omit<ScriptedExport, 'size'>][] = [
  ['simple replies', {}],
  ['structured replies', { structuredReplies: true }],
  ['extended headers', { extendedHeaders: true, metaContexts: { 'base:allocation': 7 } }],
  ['block sizes', { structuredReplies: true, blockSizes: [4096, 65_536, 131_072] }],
];

it.each(GRANTS)('scripted server: serves a disk with %s', async (_, grants) => {
  const scope = createScope();
  const content = Buffer.alloc(MIB);
  const server = await startScriptedServer(scope, { size: BigInt(MIB), ...grants }, storeIn(content));
  const disk = await mountDisk(scope, { server: [server.uri] });
  expect((await stat(disk.file)).size).toBe(MIB);
  const text = Buffer.alloc(300_000, 'to and fro; ');
  await writeAt(disk.file, text, 12_345);
  expect(content.subarray(12_345, 12_345 + text.length).equals(text)).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect(server.requests.at(-1)?.type).toBe(NBD_CMD_DISC);
  expect(server.clients[0]).toMatchObject({ extended: grants.extendedHeaders === true });
  const sizes = grants.blockSizes;
  if (sizes === undefined) return;
  for (const { type, offset, length } of server.requests) {
    if (type !== NBD_CMD_READ && type !== NBD_CMD_WRITE) continue;
    expect([Number(offset) % sizes[0], length % sizes[0], length <= sizes[2]]).toEqual([0, 0, true]);
  }
});

it('scripted server: replies in any order reach their own requests', async () => {
  const scope = createScope();
  const held: (() => void)[] = [];
  const parts = new Set<number>();
  const server = await startScriptedServer(scope, { size: BigInt(16 * MIB) }, (request, reply) => {
    if (request.type !== NBD_CMD_READ) return answerAll(request, reply);
    const part = Number(request.offset / BigInt(MIB));
    held.push(() => reply.data(Buffer.alloc(request.length, part)));
    // The kernel may read ahead, and so read a part more than once.
    parts.add(part);
    if (parts.size === 8) for (const answer of held.splice(0).reverse()) answer();
  });
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  // Separate programs: Node reads with only four threads.
  const readWithHead = (i: number) =>
    runShell('tail -c +"$1" "$0" | head -c 1', disk.file, String(i * MIB + 1));
  const found = await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(readWithHead));
  expect(found.map((text) => text.charCodeAt(0))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

it('scripted server: pending requests go out again on a new connection when the server dies', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: BigInt(MIB) });
  const disk = await mountDisk(scope, { server: [server.uri] });
  server.handler = () => server.die();
  const reading = readAt(disk.file, 65_536, 4096);
  await disk.program.says(/the server is lost/);
  server.handler = (request, reply) => reply.data(Buffer.alloc(request.length, 'x'));
  await server.listen();
  expect((await reading).toString()).toBe('x'.repeat(4096));
});

it('scripted server: a bad reply gives a line with the broken rule', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: BigInt(MIB) }, (_, reply) =>
    reply.raw(Buffer.alloc(64, 0xff)),
  );
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--reconnect=0'] });
  await expect(readAt(disk.file, 0, 4096)).rejects.toThrow('EIO');
  expect(disk.stderr).toMatch(/^nbdfuse: .*magic/m);
});
