import { stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
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

const ODD: [string, Partial<ScriptedExport>, string][] = [
  ['flags without HAS_FLAGS', { flags: 0b110_1100 }, 'transmission flags 0x6c lack NBD_FLAG_HAS_FLAGS'],
  ['preferred size 1', { blockSizes: [1, 1, 0xffffffff] }, 'using 1/4096/4294967295'],
  ['a maximum below the preferred size', { blockSizes: [512, 65_536, 4096] }, 'using 512/4096/4096'],
  ['a minimum of 1 MiB', { blockSizes: [MIB, MIB, 32 * MIB] }, 'using 65536/1048576/33554432'],
  ['a minimum of 3000 bytes', { blockSizes: [3000, 4096, MIB] }, 'using 512/4096/1048576'],
  ['block sizes of 0', { blockSizes: [0, 0, 0] }, 'using 512/4096/33554432'],
];

it.each(ODD)('scripted server: a mount and a client work with %s', async (_, odd, said) => {
  const scope = createScope();
  // No multiple of the minimum.
  const size = MIB + 1536;
  const content = Buffer.alloc(size);
  const server = await startScriptedServer(scope, { size: BigInt(size), ...odd }, storeIn(content));
  const disk = await mountDisk(scope, { server: [server.uri], options: ['-v'] });
  await writeAt(disk.file, Buffer.from('odd'), 70_001);
  await writeAt(disk.file, Buffer.from('end'), size - 3);
  expect((await readAt(disk.file, 70_000, 5)).toString('latin1')).toBe('\0odd\0');
  expect((await readAt(disk.file, size - 3, 10)).toString()).toBe('end');
  expect(disk.stderr).toContain(said);
  expect(await disk.stop()).toBe(0);
  const client = await NbdClient.connect(server.uri);
  await client.write(200_001n, Buffer.from('client'));
  expect(Buffer.from(await client.read(200_001n, 6)).toString()).toBe('client');
  expect(content.toString('latin1', 200_000, 200_008)).toBe('\0client\0');
  expect(client.info.corrections?.join()).toContain(said);
  await client.close();
});

it.each([0n, 2n ** 63n - 1n])('scripted server: a mount shows a disk of %s bytes', async (size) => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size }, (request, reply) =>
    request.type === NBD_CMD_READ ? reply.data(Buffer.alloc(request.length)) : answerAll(request, reply),
  );
  const disk = await mountDisk(scope, { server: [server.uri] });
  expect((await stat(disk.file, { bigint: true })).size).toBe(size);
  expect((await readAt(disk.file, 0, 512)).length).toBe(size === 0n ? 0 : 512);
  expect(await disk.stop()).toBe(0);
});

it('scripted server: a new connection gets the READs that compare the disk one at a time', async () => {
  const scope = createScope();
  const serve = storeIn(Buffer.alloc(MIB, 'content'));
  const server = await startScriptedServer(scope, { size: BigInt(MIB) }, serve);
  const disk = await mountDisk(scope, { server: [server.uri] });
  // Before it, nbdfuse reads the first, the middle and the last block.
  await writeAt(disk.file, Buffer.alloc(4096, 'new'), 0);
  let pending = 0;
  const together: number[] = [];
  server.handler = (request, reply) => {
    together.push(++pending);
    setTimeout(() => {
      pending--;
      serve(request, reply);
    }, 50);
  };
  server.die();
  await server.listen();
  await disk.program.says(/reconnected/);
  expect(together.length).toBeGreaterThan(1);
  expect(Math.max(...together)).toBe(1);
});
