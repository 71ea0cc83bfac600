// Vulnerabilities of other NBD clients, tried on the library, and on the mount where they would appear.
//
// The list is in docs/operating/security.md; docs/internals/testing.md names all tests.

import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_REP_ACK,
  NBD_REP_ERR_UNSUP,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
} from '../../support/nbd-numbers.js';
import { answerOptions, exportInfo, GREETING, startRawServer } from '../../support/raw-server.js';
import { makePki } from '../../support/run/certificates.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { answerAll, startScriptedServer } from '../../support/scripted-server.js';
import { optionReply, u16, u32, u64 } from '../../support/scripted-wire.js';

requirePrograms('nbdkit', 'certtool');

const MIB = 1024 * 1024;

/** The start of a mount that must fail: one line, status 1, no stack trace. */
async function failureOf(scope: Scope, uri: string): Promise<string> {
  const program = startNbdfuse(scope, [scope.folder, uri]);
  expect(await program.ended).toBe(1);
  expect(program.stderr.trimEnd().split('\n')).toHaveLength(1);
  return program.stderr;
}

/** The library's error when it cannot connect. */
async function refusalOf(uri: string): Promise<Error> {
  const outcome: unknown = await NbdClient.connect(uri).catch((error: unknown) => error);
  if (!(outcome instanceof Error)) throw new Error('the client has connected');
  return outcome;
}

describe('required TLS cannot be stripped (CVE-2019-14842)', () => {
  const secure = (scope: Scope, socket: string): string =>
    `nbds+unix:///?socket=${socket}&tls-certificates=${makePki(scope.path('pki'))}`;

  it('an oldstyle server cannot strip TLS', async () => {
    const scope = createScope();
    const { socket } = await startNbdkit(scope, '--oldstyle', 'memory', '1M');
    const uri = secure(scope, socket);
    const why = /cannot use TLS, and plain text is not allowed/;
    expect((await refusalOf(uri)).message).toMatch(why);
    expect(await failureOf(scope, uri)).toMatch(why);
  });

  it.each<[string, (socket: Socket) => void]>([
    [
      'by a newstyle server from before fixed newstyle',
      (socket) => socket.write(Buffer.concat([GREETING.subarray(0, 16), u16(0)])),
    ],
    [
      'by one that refuses NBD_OPT_STARTTLS and would go on',
      (socket) => answerOptions(socket, (option) => socket.write(optionReply(option, NBD_REP_ERR_UNSUP))),
    ],
    [
      'by one that slips replies in behind its consent',
      (socket) =>
        answerOptions(socket, (option) =>
          socket.write(Buffer.concat([optionReply(option, NBD_REP_ACK), exportInfo(NBD_OPT_GO, 1n)])),
        ),
    ],
  ])('%s, and the client sends nothing but NBD_OPT_STARTTLS', async (_, talk) => {
    const scope = createScope();
    let heard = Buffer.alloc(0);
    const server = await startRawServer(scope, (socket) => {
      socket.on('data', (bytes: Buffer) => {
        heard = Buffer.concat([heard, bytes]);
      });
      talk(socket);
    });
    const uri = secure(scope, server.socketPath);
    await refusalOf(uri);
    await failureOf(scope, uri);
    // After four bytes of flags: options, which have no data.
    for (let at = 4; at + 16 <= heard.length; at += 16) {
      if (heard.toString('latin1', at, at + 8) !== 'IHAVEOPT') at += 4;
      expect(heard.readUInt32BE(at + 8)).not.toBe(NBD_OPT_GO);
      expect(heard.readUInt32BE(at + 8)).not.toBe(NBD_OPT_EXPORT_NAME);
    }
  });
});

it('NBD_OPT_GO: a server that dies during it gives one line (CVE-2021-20286)', async () => {
  const scope = createScope();
  const server = await startRawServer(scope, (socket) =>
    answerOptions(socket, (option) => {
      if (option === NBD_OPT_GO) socket.destroy();
      else socket.write(optionReply(option, NBD_REP_ERR_UNSUP));
    }),
  );
  const why = /closed the connection before its reply to NBD_OPT_GO/;
  expect((await refusalOf(server.uri)).message).toMatch(why);
  expect(await failureOf(scope, server.uri)).toMatch(why);
});

describe('errors of concurrent requests are not lost (CVE-2022-0485)', () => {
  const failing = { [NBD_CMD_READ]: NBD_EIO, [NBD_CMD_WRITE]: NBD_ENOSPC, [NBD_CMD_FLUSH]: NBD_EIO };
  const served = { size: BigInt(MIB), structuredReplies: true, metaContexts: { 'base:allocation': 1 } };

  it('in the library, each failing request rejects with its own error, and the others succeed', async () => {
    const scope = createScope();
    // Requests in the second half of the disk fail.
    const server = await startScriptedServer(scope, served, (request, reply) => {
      if (request.offset < MIB / 2 && request.type !== NBD_CMD_FLUSH) answerAll(request, reply);
      else reply.error(NBD_EPERM, 'no');
    });
    const client = await NbdClient.connect(server.uri);
    scope.add(() => client.close());
    const bytes = Buffer.alloc(4096, 1);
    const both = (request: (offset: number) => Promise<unknown>) => [request(0), request(MIB / 2)];
    const outcomes = await Promise.allSettled([
      ...both((offset) => client.read(offset, 4096)),
      ...both((offset) => client.write(offset, bytes)),
      ...both((offset) => client.zero(offset, 4096)),
      ...both((offset) => client.trim(offset, 4096)),
      ...both((offset) => client.blockStatus(offset, 4096)),
      client.flush(),
    ]);
    const states = outcomes.map(({ status }) => status);
    expect(states).toEqual([...Array(5).fill(['fulfilled', 'rejected']).flat(), 'rejected']);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ errno: NBD_EPERM });
  });

  it.each(['writeback', 'writethrough', 'none'])(
    'on a mount, programs get the errors, with --cache=%s',
    async (cache) => {
      const scope = createScope();
      let isFailing = false;
      const server = await startScriptedServer(scope, served, (request, reply) => {
        const error = isFailing ? Reflect.get(failing, request.type) : undefined;
        if (error === undefined) answerAll(request, reply);
        else reply.error(error);
      });
      const disk = await mountDisk(scope, { server: [server.uri], options: [`--cache=${cache}`] });
      const handle = await openFile(scope, disk.file, 'r+');
      isFailing = true;
      await expect(readAt(disk.file, 65_536, 4096)).rejects.toMatchObject({ code: 'EIO' });
      const writing = handle.write(Buffer.alloc(4096, 2), 0, 4096, 131_072).then(() => handle.sync());
      await expect(writing).rejects.toMatchObject({ code: expect.stringMatching(/^(EIO|ENOSPC)$/) });
      isFailing = false;
      await handle.close().catch(() => undefined);
      expect((await readAt(disk.file, 65_536, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    },
  );
});

describe('sizes beyond those of a file are refused (CVE-2023-5215)', () => {
  it.each([2n ** 63n, 2n ** 64n - 2n, 2n ** 64n - 1n])('%d bytes', async (size) => {
    const scope = createScope();
    const server = await startRawServer(scope, (socket) =>
      answerOptions(socket, (option) => {
        if (option !== NBD_OPT_GO) socket.write(optionReply(option, NBD_REP_ERR_UNSUP));
        else socket.write(Buffer.concat([exportInfo(option, size), optionReply(option, NBD_REP_ACK)]));
      }),
    );
    const why = new RegExp(`an export of ${size} bytes is larger than any file can be`);
    expect((await refusalOf(server.uri)).message).toMatch(why);
    expect(await failureOf(scope, server.uri)).toMatch(why);
  });

  it('a disk of 2^63-1 bytes is a file, readable up to the last byte', async () => {
    const scope = createScope();
    const server = await startScriptedServer(scope, { size: 2n ** 63n - 1n });
    const client = await NbdClient.connect(server.uri);
    scope.add(() => client.close());
    expect(client.size).toBe(2n ** 63n - 1n);
    expect(await client.read(2n ** 63n - 512n, 511)).toHaveLength(511);
    await expect(client.read(2n ** 63n - 512n, 512)).rejects.toThrow();
  });
});

describe('64-bit numbers in block status (CVE-2023-5871)', () => {
  const served = { size: BigInt(MIB), extendedHeaders: true, metaContexts: { 'base:allocation': 1 } };
  const payload = Buffer.concat([
    ...[u32(1), u32(2)],
    ...[u64(4096n), u64(2n ** 64n - 1n)],
    ...[u64(2n ** 64n - 1n), u64(2n ** 63n)],
  ]);

  it('end neither the library nor the mount', async () => {
    const scope = createScope();
    const server = await startScriptedServer(scope, served, (request, reply) => {
      if (request.type !== NBD_CMD_BLOCK_STATUS) answerAll(request, reply);
      else reply.chunk(NBD_REPLY_TYPE_BLOCK_STATUS_EXT, payload, true);
    });
    const client = await NbdClient.connect(server.uri);
    scope.add(() => client.close());
    const { 'base:allocation': extents } = await client.blockStatus(0, MIB);
    expect(extents.map(({ offset, length }) => [offset, length])).toEqual([
      [0n, 4096n],
      [4096n, BigInt(MIB - 4096)],
    ]);
    const disk = await mountDisk(scope, { server: [server.uri] });
    expect((await readAt(disk.file, 0, 8192)).equals(Buffer.alloc(8192))).toBe(true);
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');
  });
});

it('block status: a context that was not negotiated is a breach, and crashes nothing (libnbd, July 2023)', async () => {
  const scope = createScope();
  const served = { size: BigInt(MIB), structuredReplies: true, metaContexts: { 'base:allocation': 1 } };
  let isLying = true;
  const server = await startScriptedServer(scope, served, (request, reply) => {
    if (request.type === NBD_CMD_BLOCK_STATUS && isLying) reply.status(99, [[request.length, 0]], true);
    else answerAll(request, reply);
  });
  const client = await NbdClient.connect(server.uri);
  scope.add(() => client.close());
  await expect(client.blockStatus(0, MIB)).rejects.toThrow('a metadata context that was not negotiated');
  const disk = await mountDisk(scope, { server: [server.uri] });
  await until('the message about the breach', () =>
    disk.stderr.includes('a metadata context that was not negotiated'),
  );
  isLying = false;
  expect((await readAt(disk.file, 0, 4096)).equals(Buffer.alloc(4096))).toBe(true);
});

describe('URI from a stranger starts no program (option injection into ssh)', () => {
  it.each([
    ['a host', 'nbd+ssh://-oProxyCommand=touch%20MARK/'],
    ['a percent-encoded host', 'nbd+ssh://%2DoProxyCommand=touch%20MARK/'],
    ['a user', 'nbd+ssh://-oProxyCommand=touch%20MARK@localhost/'],
    ['a host with a command in it', 'nbd+ssh://x%60touch%20MARK%60/'],
    ['a user with a command in it', 'nbds+ssh://$(touch%20MARK)@localhost/'],
  ])('%s with more than a name is refused', async (_, template) => {
    const scope = createScope();
    const mark = scope.path('mark');
    const uri = template.replace('MARK', encodeURIComponent(mark));
    expect((await refusalOf(uri)).message).toMatch(/the (host|user) name is invalid|bad (host|user) for ssh/);
    expect(await failureOf(scope, uri)).toMatch(/^nbdfuse: .*(name is invalid|for ssh)/);
    expect(existsSync(mark)).toBe(false);
  });
});
