// An older change never replaces a newer, acknowledged one: even if its requester has gone, its connection is
// lost, or the server comes back with another disk.

import { once } from 'node:events';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { whenConnected } from '../../support/connected.js';
import { openFile } from '../../support/files.js';
import { whenWaiting } from '../../support/hanging.js';
import { NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../support/nbd-numbers.js';
import { answerOptions, exportInfo, startRawServer } from '../../support/raw-server.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { freePort, portOf } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { type RealServer, startNbdkit, startQemuNbd, startTcpNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import {
  type ReplyWriter,
  type RequestHandler,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';
import { optionReply } from '../../support/scripted-wire.js';
import { MULTI_CONN_FLAGS, VolatileDisk } from '../../support/volatile-disk.js';

requirePrograms('nbdkit', 'qemu-nbd', 'dd', 'fallocate', 'perl', 'unshare', 'getfattr');

const MIB = 1024 * 1024;
const BLOCK = 65_536;
const WRITE_ZEROES_FLAGS = MULTI_CONN_FLAGS | 0b100_0000;

/** Kernel functions in which a program waits for nbdfuse. */
const IN_FUSE = /fuse|request_wait|folio|balance/;

interface World {
  readonly model: VolatileDisk;
  readonly server: ScriptedServer;
  readonly disk: MountedDisk;
  /** Executes the delayed request and sends its reply. */
  release(): void;
}

/** A server that delays the first request of a type until the test releases it. */
async function holdFirst(scope: Scope, type: number, ...options: readonly string[]): Promise<World> {
  const model = new VolatileDisk(16 * MIB);
  const held: [Parameters<RequestHandler>[0], ReplyWriter][] = [];
  const handler: RequestHandler = (request, reply) => {
    if (request.type === type && held.length === 0) held.push([request, reply]);
    else if (request.type === NBD_CMD_WRITE_ZEROES) zero(model, request, reply);
    else model.handle(request, reply);
  };
  const server = await startScriptedServer(
    scope,
    { size: 16n * 1024n * 1024n, flags: WRITE_ZEROES_FLAGS, blockSizes: [1, 4096, 32 * MIB] },
    handler,
  );
  const disk = await mountDisk(scope, { server: [server.uri], options });
  await whenConnected(disk, options);
  const release = (): void => {
    for (const [request, reply] of held) {
      if (request.type === NBD_CMD_WRITE_ZEROES) zero(model, request, reply);
      else model.handle(request, reply);
    }
  };
  scope.add(release);
  return { model, server, disk, release };
}

function zero(
  model: VolatileDisk,
  { offset, length }: Parameters<RequestHandler>[0],
  reply: ReplyWriter,
): void {
  model.cached.fill(0, Number(offset), Number(offset) + length);
  reply.ok();
}

/** A file of one block, all of one letter. */
function blockFile(scope: Scope, letter: string, length = BLOCK): string {
  const path = scope.path(`${letter}.block`);
  writeFileSync(path, Buffer.alloc(length, letter));
  return path;
}

function start(scope: Scope, command: string, ...words: readonly string[]): Program {
  return new Program(scope, 'env', ['--default-signal', command, ...words]);
}

const directWrite = (from: string, to: string, length = BLOCK): string[] => [
  `if=${from}`,
  `of=${to}`,
  `bs=${length}`,
  'oflag=direct',
  'conv=notrunc',
];
const syncedWrite = (from: string, to: string): string[] => [
  `if=${from}`,
  `of=${to}`,
  `bs=${BLOCK}`,
  'conv=notrunc,fsync',
];

function requestOf({ server }: World, type: number): Promise<void> {
  return until('the request', () => server.requests.some((request) => request.type === type));
}

/** Interrupts a change that the server delays: a newer write of the same bytes must wait for it, and win. */
async function expectNewerWaitsFor(scope: Scope, world: World, older: Program): Promise<void> {
  const { disk, model } = world;
  expect(await older.kill('SIGTERM')).toBe('SIGTERM');
  const newer = start(scope, 'dd', ...syncedWrite(blockFile(scope, 'B'), disk.file));
  await whenWaiting(newer, IN_FUSE);
  await pause(200);
  expect(model.cached.includes('B')).toBe(false);
  world.release();
  expect(await newer.ended).toBe(0);
  expect(model.stable.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
}

it.each([['1'], ['4']])(
  'order of changes: an interrupted direct write at the server delays a newer one, with %s connections',
  async (connections) => {
    const scope = createScope();
    const world = await holdFirst(scope, NBD_CMD_WRITE, '-C', connections);
    const { disk } = world;
    const older = start(scope, 'dd', ...directWrite(blockFile(scope, 'A'), disk.file));
    await requestOf(world, NBD_CMD_WRITE);
    await expectNewerWaitsFor(scope, world, older);
  },
);

it('order of changes: an interrupted fallocate at the server delays a newer write', async () => {
  const scope = createScope();
  const world = await holdFirst(scope, NBD_CMD_WRITE_ZEROES, '-C', '1');
  const older = start(scope, 'fallocate', '-p', '-o', '0', '-l', String(2 * BLOCK), world.disk.file);
  await requestOf(world, NBD_CMD_WRITE_ZEROES);
  await expectNewerWaitsFor(scope, world, older);
});

it('order of changes: a newer write that is interrupted before its turn is never sent', async () => {
  const scope = createScope();
  const world = await holdFirst(scope, NBD_CMD_WRITE, '-C', '1');
  const { disk, model, server } = world;
  const older = start(scope, 'dd', ...directWrite(blockFile(scope, 'A'), disk.file));
  await requestOf(world, NBD_CMD_WRITE);
  await older.kill('SIGTERM');
  const newer = start(scope, 'dd', ...directWrite(blockFile(scope, 'B'), disk.file));
  await whenWaiting(newer, IN_FUSE);
  expect(await newer.kill('SIGTERM')).toBe('SIGTERM');
  world.release();
  const last = start(scope, 'dd', ...directWrite(blockFile(scope, 'C'), disk.file));
  expect(await last.ended).toBe(0);
  expect(model.cached.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'C'))).toBe(true);
  expect(server.requests.filter(({ payload }) => payload.includes('B'))).toEqual([]);
});

it('order of changes: a read waits for an unresolved change of its bytes', async () => {
  const scope = createScope();
  const world = await holdFirst(scope, NBD_CMD_WRITE, '-C', '2', '--cache=none');
  const { disk } = world;
  const older = start(scope, 'dd', ...directWrite(blockFile(scope, 'A'), disk.file));
  await requestOf(world, NBD_CMD_WRITE);
  await older.kill('SIGTERM');
  const file = await openFile(scope, disk.file, 'r');
  let bytes: Buffer | undefined;
  const reading = file.read(Buffer.alloc(4096), 0, 4096, 0).then(({ buffer }) => {
    bytes = buffer;
  });
  await file.read(Buffer.alloc(4096), 0, 4096, BLOCK);
  expect(bytes).toBe(undefined);
  world.release();
  await reading;
  expect(bytes?.equals(Buffer.alloc(4096, 'A'))).toBe(true);
});

/** Writes once, with a handled SIGALRM meanwhile, and prints the number of written bytes. */
const ALARMED = `
use POSIX; use Time::HiRes 'ualarm';
sigaction(SIGALRM, POSIX::SigAction->new(sub {}, POSIX::SigSet->new, SA_RESTART));
open(my $file, '+<', $ARGV[0]) or die;
ualarm(200_000);
my $count = syswrite($file, 'A' x 65536);
print defined $count ? "wrote $count\\n" : "failed: $!\\n";
`;

it('order of changes: a handled signal in another PID namespace does not interrupt a write', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  const server = await startScriptedServer(
    scope,
    { size: 1_048_576n, flags: MULTI_CONN_FLAGS },
    (request, reply) => {
      if (request.type === NBD_CMD_WRITE) setTimeout(() => model.handle(request, reply), 1500);
      else model.handle(request, reply);
    },
  );
  const prefix = ['unshare', '--pid', '--fork', '--kill-child=SIGTERM'];
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'], prefix });
  const writer = new Program(scope, 'perl', ['-e', ALARMED, disk.file]);
  expect(await writer.ended).toBe(0);
  expect(writer.stdout).toBe('wrote 65536\n');
  // unshare(1) does not pass SIGTERM on.
  await runProgram('umount', disk.mountpoint);
  expect(await disk.program.ended).toBe(0);
});

it('order of changes: a write stalled in real storage behind a given-up qemu-nbd lands before a newer one', async () => {
  const scope = createScope();
  const model = new VolatileDisk(16 * MIB);
  let stalled: (() => void) | undefined;
  const storage = await startScriptedServer(
    scope,
    { size: 16n * 1024n * 1024n, flags: MULTI_CONN_FLAGS },
    (request, reply) => {
      if (request.type === NBD_CMD_WRITE && stalled === undefined)
        stalled = () => model.handle(request, reply);
      else model.handle(request, reply);
    },
  );
  scope.add(() => stalled?.());
  const qemu = await startQemuNbd(scope, '-f', 'raw', storage.uri);
  const options = ['--timeout=0.4', '--cache=none', '-C', '1'];
  const disk = await mountDisk(scope, { server: [qemu.uri()], options });
  const file = await openFile(scope, disk.file, 'r+');
  const older = file.write(Buffer.alloc(BLOCK, 'A'), 0, BLOCK, 0);
  await disk.program.says(/the server has not answered for 0\.4 s/);
  await older;
  let isWritten = false;
  const newer = file.write(Buffer.alloc(BLOCK, 'B'), 0, BLOCK, 0).then(() => {
    isWritten = true;
  });
  await pause(500);
  expect(isWritten).toBe(false);
  stalled?.();
  await newer;
  await file.sync();
  expect(model.cached.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
});

/** Forwards a TCP port, and stops in the middle of the client's data after so many bytes. */
async function startSlowReader(
  scope: Scope,
  path: string,
  bytes: number,
): Promise<{ port: number; goOn(): void }> {
  const goOn: (() => void)[] = [];
  let left = bytes;
  const sockets: Socket[] = [];
  const proxy = createServer((client) => {
    const server = createConnection(path);
    sockets.push(client, server);
    for (const socket of [client, server])
      socket.on('error', () => undefined).on('close', () => client.destroy());
    server.pipe(client);
    client.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      server.write(chunk);
      if (left > 0 || goOn.length > 0) return;
      client.pause();
      goOn.push(() => client.resume());
    });
    client.on('close', () => server.destroy());
  });
  scope.add(() => {
    proxy.close();
    for (const socket of sockets) socket.destroy();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return { port: portOf(proxy), goOn: () => goOn[0]?.() };
}

it('order of changes: the unread part of a given-up write lands before a newer one, over TCP', async () => {
  const scope = createScope();
  const model = new VolatileDisk(32 * MIB);
  const server = await startScriptedServer(
    scope,
    { size: 32n * 1024n * 1024n, flags: MULTI_CONN_FLAGS },
    model.handle,
  );
  const proxy = await startSlowReader(scope, server.socketPath, 3 * MIB);
  scope.add(proxy.goOn);
  const options = ['--timeout=0.4', '--cache=none', '-C', '1'];
  const disk = await mountDisk(scope, { server: [`nbd://127.0.0.1:${proxy.port}`], options });
  const length = 8 * MIB;
  const older = start(scope, 'dd', ...directWrite(blockFile(scope, 'A', length), disk.file, length));
  expect(await older.ended).toBe(0);
  expect(disk.stderr).toMatch(/the server has not answered for 0\.4 s/);
  const words = directWrite(blockFile(scope, 'B', length), disk.file, length);
  const newer = start(scope, 'dd', ...words, 'conv=notrunc,fsync');
  await whenWaiting(newer, IN_FUSE);
  // Longer than every wait with a time limit.
  await pause(11_000);
  proxy.goOn();
  expect(await newer.ended).toBe(0);
  expect(model.stable.subarray(0, length).equals(Buffer.alloc(length, 'B'))).toBe(true);
});

it('order of changes: a server that closes with a pending write is no proof: a newer write fails', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  let land: (() => void) | undefined;
  const server = await startScriptedServer(
    scope,
    { size: 1_048_576n, flags: MULTI_CONN_FLAGS },
    (request, reply) => {
      if (request.type !== NBD_CMD_WRITE || land !== undefined) return model.handle(request, reply);
      land = () => request.payload.copy(model.cached, Number(request.offset));
      reply.drop();
    },
  );
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none', '-C', '1'] });
  const file = await openFile(scope, disk.file, 'r+');
  const write = (letter: string, at: number): Promise<unknown> =>
    file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, at);
  await write('A', 0);
  await write('C', BLOCK);
  await expect(write('B', 0)).rejects.toMatchObject({ code: 'EIO' });
  await disk.program.says(/see --settle-time\n/);
  // docs/operating/troubleshooting.md has it word for word.
  expect(disk.stderr.split('\n')).toContain(
    'nbdfuse: nbd: writes to the bytes from 0 to 65536 fail: an older write was sent on a lost connection, and after 30 s there is no proof that the server will not still execute it; restart the server, or see --settle-time',
  );
  land?.();
  expect(model.cached.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'A'))).toBe(true);
  expect(model.cached.subarray(BLOCK, 2 * BLOCK).equals(Buffer.alloc(BLOCK, 'C'))).toBe(true);
}, 60_000);

it('order of changes: after --settle-time the requests of a closed connection count as dropped', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  let dropped = 0;
  const server = await startScriptedServer(
    scope,
    { size: 1_048_576n, flags: MULTI_CONN_FLAGS },
    (request, reply) => {
      if (request.type === NBD_CMD_WRITE && dropped++ === 0) reply.drop();
      else model.handle(request, reply);
    },
  );
  const options = ['--cache=none', '-C', '1', '--settle-time=0.5'];
  const disk = await mountDisk(scope, { server: [server.uri], options });
  const file = await openFile(scope, disk.file, 'r+');
  for (const letter of ['A', 'B']) await file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, 0);
  expect(model.cached.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
});

it.each([
  ['over a Unix socket', false],
  ['over TCP', true],
])(
  'order of changes: a real server that is killed with a pending write does not delay newer ones, %s',
  async (_, isTcp) => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    writeFileSync(image, '');
    truncateSync(image, MIB);
    const port = isTcp ? await freePort() : 0;
    const words = ['--filter=delay', 'file', image, 'wdelay=700ms'];
    const serve = () => (isTcp ? startTcpNbdkit(scope, port, ...words) : startNbdkit(scope, ...words));
    let server = await serve();
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--cache=none', '-C', '1'] });
    const file = await openFile(scope, disk.file, 'r+');
    const older = file.write(Buffer.alloc(BLOCK, 'A'), 0, BLOCK, 0);
    await pause(200);
    await server.program.kill('SIGKILL');
    await pause(300);
    server = await serve();
    await older;
    await file.write(Buffer.alloc(BLOCK, 'B'), 0, BLOCK, 0);
    await file.sync();
    expect(readFileSync(image).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
  },
);

/** Starts a server, again after its end. */
type Serve = (
  scope: Scope,
  image: string,
) => () => Promise<{ readonly uri: () => string; kill(): Promise<unknown> }>;

const killing = (serve: () => Promise<RealServer>) => async () => {
  const { program, uri } = await serve();
  return { uri: () => uri(), kill: () => program.kill('SIGKILL') };
};

const RESTARTED: [string, Serve][] = [
  [
    'nbdkit',
    (scope, image) => killing(() => startNbdkit(scope, '--filter=delay', 'file', image, 'wdelay=300ms')),
  ],
  ['qemu-nbd', (scope, image) => killing(() => startQemuNbd(scope, '-f', 'raw', image))],
];

it.each(RESTARTED)(
  'order of changes: an interrupted write never lands on a newer one when %s is killed and restarted',
  async (_, serve) => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    writeFileSync(image, '');
    truncateSync(image, MIB);
    const serveAgain = serve(scope, image);
    let server = await serveAgain();
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--cache=none', '-C', '1'] });
    for (const pauseBefore of [0, 50, 150, 250, 350]) {
      const older = start(scope, 'dd', ...directWrite(blockFile(scope, 'A'), disk.file));
      await Promise.race([whenWaiting(older, IN_FUSE), older.ended]);
      await pause(pauseBefore);
      older.child.kill('SIGTERM');
      await server.kill();
      await older.ended;
      server = await serveAgain();
      const newer = start(scope, 'dd', ...syncedWrite(blockFile(scope, 'B'), disk.file));
      expect(await newer.ended).toBe(0);
      await pause(400);
      expect(readFileSync(image).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
    }
  },
);

async function diskFile(scope: Scope, name: string, letter: string): Promise<string> {
  const path = scope.path(name);
  writeFileSync(path, Buffer.alloc(MIB, letter));
  return path;
}

it.each([
  ['with another description', ['one', 'two'], /another export: .*description/],
  ['with other contents', ['same', 'same'], /another disk: the bytes at offset \d+ have changed/],
])(
  'other disk: unflushed writes are not sent to another disk on the same socket, %s',
  async (_, [first, second], message) => {
    const scope = createScope();
    const [mine, other] = [await diskFile(scope, 'one.raw', '1'), await diskFile(scope, 'two.raw', '2')];
    const serve = (image: string, description: string) =>
      startQemuNbd(scope, '-f', 'raw', '--cache=writeback', '-D', description, image);
    const server = await serve(mine, first);
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--cache=none'] });
    const file: FileHandle = await openFile(scope, disk.file, 'r+');
    await file.write(Buffer.alloc(4096, 'W'), 0, 4096, 8192);
    // Meanwhile nbdfuse gets the export's description.
    await file.read(Buffer.alloc(4096), 0, 4096, 65_536);
    await server.program.kill('SIGKILL');
    const wrong = await serve(other, second);
    await disk.program.says(message);
    await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
    expect(readFileSync(other).equals(Buffer.alloc(MIB, '2'))).toBe(true);
    // The right one is accepted.
    await wrong.program.kill('SIGKILL');
    writeFileSync(mine, Buffer.alloc(MIB, '1'));
    await serve(mine, first);
    await disk.program.says(/reconnected after/);
    await file.sync();
    expect(readFileSync(mine).subarray(8192, 12_288).equals(Buffer.alloc(4096, 'W'))).toBe(true);
  },
);

it('other disk: a disk that was written as a whole before any read or fsync is recognized', async () => {
  const scope = createScope();
  const [mine, other] = [await diskFile(scope, 'one.raw', '1'), await diskFile(scope, 'two.raw', '2')];
  const serve = (image: string) => startQemuNbd(scope, '-f', 'raw', '--cache=writeback', image);
  const server = await serve(mine);
  const disk = await mountDisk(scope, { server: [server.uri()], options: ['--cache=none'] });
  const file = await openFile(scope, disk.file, 'r+');
  const content = Buffer.alloc(MIB, 'W');
  await file.write(content, 0, MIB, 0);
  await server.program.kill('SIGKILL');
  const wrong = await serve(other);
  await disk.program.says(/another disk: the bytes at offset \d+ have changed/);
  await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  expect(readFileSync(other).equals(Buffer.alloc(MIB, '2'))).toBe(true);
  // The right one may have any part of the writes.
  await wrong.program.kill('SIGKILL');
  writeFileSync(mine, Buffer.concat([content.subarray(0, 100), Buffer.alloc(MIB - 100, '1')]));
  await serve(mine);
  await disk.program.says(/reconnected after/);
  await file.sync();
  expect(readFileSync(mine).equals(content)).toBe(true);
});

it('other disk: without a readable block, unflushed writes are not sent to a server that comes back', async () => {
  const scope = createScope();
  const log = scope.path('log');
  const words = [
    'eval',
    'get_size=echo 1M',
    'pread=echo EIO no >&2; exit 1',
    `pwrite=cat >/dev/null; echo $4 >>${log}`,
    'can_write=exit 0',
    'can_flush=exit 0',
    'flush=exit 0',
  ];
  const server = await startNbdkit(scope, ...words);
  const disk = await mountDisk(scope, { server: [server.uri()], options: ['--cache=none'] });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.alloc(BLOCK, 'W'), 0, BLOCK, 0);
  await server.program.kill('SIGKILL');
  await startNbdkit(scope, ...words);
  await disk.program.says(
    /came back with another disk: nbdfuse cannot exclude that, as it knows no block of the first one; reads and writes fail with EIO/,
  );
  await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  expect(readFileSync(log, 'utf8')).toBe('0\n');
});

/** A server that answers WRITEs after their headers, and reads their payloads when the test tells it to. */
async function startHastyServer(scope: Scope, size: number) {
  const payloads: Buffer[] = [];
  const answered = new Set<string>();
  let heard = Buffer.alloc(0);
  let resume = (): void => undefined;
  const take = (socket: Socket): void => {
    for (;;) {
      if (heard.length < 28) return;
      const [type, length] = [heard.readUInt16BE(6), heard.readUInt32BE(24)];
      const cookie = heard.subarray(8, 16);
      const header = Buffer.alloc(16);
      header.writeUInt32BE(0x67446698, 0);
      cookie.copy(header, 8);
      if (type === NBD_CMD_WRITE && heard.length < 28 + length) {
        if (answered.has(cookie.toString('hex'))) return;
        socket.pause();
        socket.write(header);
        resume = () => {
          resume = () => undefined;
          socket.resume();
        };
        answered.add(cookie.toString('hex'));
        return;
      }
      if (type === NBD_CMD_WRITE) payloads.push(Buffer.from(heard.subarray(28, 28 + length)));
      const isAnswered = answered.delete(cookie.toString('hex'));
      heard = Buffer.from(heard.subarray(28 + (type === NBD_CMD_WRITE ? length : 0)));
      if (type === 2) socket.end();
      else if (!isAnswered) socket.write(type === 0 ? Buffer.concat([header, Buffer.alloc(length)]) : header);
    }
  };
  const raw = await startRawServer(scope, (socket) => {
    let isTransmission = false;
    answerOptions(socket, (option) => {
      if (option !== 7) {
        socket.write(optionReply(option, 0x8000_0001, Buffer.alloc(0)));
        return;
      }
      socket.write(
        Buffer.concat([exportInfo(option, BigInt(size)), optionReply(option, 1, Buffer.alloc(0))]),
      );
      socket.removeAllListeners('data');
      isTransmission = true;
      socket.on('data', (bytes: Buffer) => {
        heard = Buffer.concat([heard, bytes]);
        if (isTransmission) take(socket);
      });
    });
  });
  return { uri: raw.uri, payloads, goOn: () => resume() };
}

it('early replies: a server that answers a large write before reading it reads the bytes of that write', async () => {
  const scope = createScope();
  const server = await startHastyServer(scope, 8 * MIB);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none', '-C', '1'] });
  scope.add(() => server.goOn());
  const write = (letter: string, at: number): Program =>
    start(scope, 'dd', ...directWrite(blockFile(scope, letter, MIB), disk.file, MIB), `seek=${at}`);
  expect(await write('A', 0).ended).toBe(0);
  // The second arrives while the first is unread, and the third uses the memory of the first, if that is
  // reused.
  const others = [write('B', 2), write('C', 4)];
  for (const other of others) await whenWaiting(other, IN_FUSE);
  await until('the payloads', () => {
    server.goOn();
    return server.payloads.length === 3;
  });
  for (const other of others) expect(await other.ended).toBe(0);
  const letters = server.payloads.map((payload) => new Set(payload.toString('latin1')));
  expect(letters.every(({ size }) => size === 1)).toBe(true);
  expect(letters[0]).toEqual(new Set('A'));
  expect(letters.flatMap((one) => [...one]).sort()).toEqual(['A', 'B', 'C']);
});
