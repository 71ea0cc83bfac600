// The worker's engine without a kernel and without a server: the test case plays both ends.
//
// Used by the `worker` target. A socket pair that preserves messages stands for /dev/fuse, a stream pair for
// the connection. Nothing blocks. Every reply is checked when it arrives. There is no splice pipe, because
// splicing into a socket does not preserve messages.

import { EIO } from '../../src/constants/errno.js';
import { FUSE_NOTIFY_INVAL_INODE } from '../../src/fuse/constants.js';
import { Tree } from '../../src/fuse/tree.js';
import { addressOf, libc } from '../../src/linux/libc.js';
import {
  AF_UNIX,
  MSG_DONTWAIT,
  setNonBlocking,
  setSocketBuffers,
  socketpair,
} from '../../src/linux/socket.js';
import type { ExportInfo } from '../../src/nbd/export-info.js';
import { type Channel, PlainChannel } from '../../src/worker/connection/channel.js';
import type { Connection } from '../../src/worker/connection/connection.js';
import { MAX_TRANSFER } from '../../src/worker/device/device.js';
import { Disk } from '../../src/worker/disk/disk.js';
import { BlockCounts } from '../../src/worker/fuse/block-counts.js';
import { Dispatcher } from '../../src/worker/fuse/dispatch.js';
import { Metadata } from '../../src/worker/fuse/metadata.js';
import { assertThoroughly } from '../../src/worker/memory/assert.js';
import { Ranges } from '../../src/worker/memory/ranges.js';
import { Engine } from '../../src/worker/request/engine.js';
import { makeCounters } from '../../src/worker/stats/counters.js';
import { statusOf } from '../../src/worker/status.js';
import type { NaiveRequest } from '../../test/support/naive-receiver.js';
import { promise } from './finding.js';

const SOCK_SEQPACKET = 5;
const BUFFERS = 4 * 1024 * 1024;
const OUT_HEADER = 16;
const LOWEST_ERROR = -4095;

/** A reply to the kernel. */
export interface KernelReply {
  readonly error: number;
  readonly body: Buffer;
}

/** A request of the kernel that was sent. */
export interface KernelRequest {
  readonly opcode: number;
  readonly offset: bigint;
  readonly size: number;
  reply: KernelReply | undefined;
}

function packetPair(): [number, number] {
  const ends = new Int32Array(2);
  promise(libc.socketpair(AF_UNIX, SOCK_SEQPACKET, 0, addressOf(ends)) === 0, 'no socket pair');
  return [ends[0], ends[1]];
}

/** A channel whose bytes go through memory. */
function unspliced(descriptor: number): Channel {
  const plain = new PlainChannel(descriptor);
  return {
    descriptor,
    spliceable: false,
    buffered: false,
    unsent: false,
    zeroCopy: undefined,
    receive: (...args) => plain.receive(...args),
    send: (...args) => plain.send(...args),
    flush: () => 0,
    sendLast: (...args) => plain.sendLast(...args),
    peer: undefined,
    unread: () => 0,
    retransmissions: 0,
    dropOnClose: () => undefined,
    close: () => plain.close(),
  };
}

const [kernelEnd, deviceEnd] = packetPair();
for (const end of [kernelEnd, deviceEnd]) {
  setNonBlocking(end);
  setSocketBuffers(end, BUFFERS);
}
const memory = Buffer.from(new ArrayBuffer(MAX_TRANSFER + 4096));

/** One disk of one test case; all test cases use the same engine. */
let current: Rig | undefined;

const engine = new Engine(
  {
    descriptor: deviceEnd,
    unflushedLimit: 65_536,
    wholeReads: false,
    keepExtents: true,
    kernelHoldsWrites: true,
    memoryLimit: 384 * 1024 * 1024,
    largestPayload: MAX_TRANSFER,
    settleTime: 0,
  },
  undefined,
  {
    connectionLost: (_disk, _connection, { why, breach }) => current?.lost(why, breach),
    connectionClosed: () => undefined,
    connectionAccepted: () => undefined,
    warn: () => undefined,
    wroteBeyondEnd: () => undefined,
    syncWanted: () => current?.wantSync(),
  },
);

assertThoroughly();

/** See the file's head. */
export class Rig {
  /** Requests of the client to the server, by cookie. */
  readonly commands = new Map<bigint, NaiveRequest>();
  readonly requests = new Map<bigint, KernelRequest>();
  /** All bytes that the server has sent. */
  readonly said: Uint8Array[] = [];
  /** The reason of the lost connection. */
  loss: { readonly why: string; readonly breach: boolean } | undefined;
  readonly #disk: Disk;
  readonly #dispatcher: Dispatcher;
  readonly #connection: Connection;
  readonly #server: number;
  readonly #extended: boolean;
  #heard = Buffer.alloc(0);
  #syncWanted = false;

  constructor(info: ExportInfo) {
    current = this;
    const file = { name: 'nbd', size: info.size, readOnly: false, blockSize: 4096 };
    const tree = new Tree([file], false, { uid: 0, gid: 0, umask: 0, now: 0 });
    this.#disk = new Disk(0, tree.files()[0], info, engine, makeCounters());
    const disks = new Map([[this.#disk.node.nodeid, this.#disk]]);
    const validity = { entry: 1, attributes: 1 };
    const metadata = new Metadata(tree, engine.device, disks, {
      cache: 'writeback',
      changing: false,
      validity,
      blocksValidity: undefined,
      negativeValidity: 1,
      keepPages: true,
      passthrough: undefined,
      wallClock: engine.system.wallClock,
    });
    const init = {
      writeback: true,
      directMmap: false,
      asyncRead: true,
      maxTransfer: MAX_TRANSFER,
      pageSize: 4096,
    };
    const status = {
      inFlight: 0,
      inUse: true,
      cache: 'writeback',
      passthrough: undefined,
      version: '',
      identity: undefined,
      uptime: 1,
      server: 'phony',
      tls: false,
      readThreads: [],
      readThreadCounters: [],
    } as const;
    const disk = this.#disk;
    const tell = (nodeid: number) => (nodeid === disk.node.nodeid ? () => statusOf(disk, status) : undefined);
    this.#dispatcher = new Dispatcher({
      engine,
      metadata,
      disks,
      parts: new Map(),
      init,
      passthrough: undefined,
      prefetched: undefined,
      kept: undefined,
      blockCounts: new BlockCounts(engine, metadata),
      status: tell,
      exportDirectory: undefined,
      readThreads: undefined,
    });
    const [mine, theirs] = socketpair();
    for (const end of [mine, theirs]) {
      setNonBlocking(end);
      setSocketBuffers(end, BUFFERS);
    }
    this.#server = theirs;
    this.#extended = info.extendedHeaders;
    this.#connection = this.#disk.attach(unspliced(mine), 0, info);
  }

  wantSync(): void {
    this.#syncWanted = true;
  }

  lost(why: string, breach: boolean): void {
    this.loss = { why, breach };
  }

  /** The kernel sends a request; `expected` describes the valid reply, undefined if no reply may come. */
  ask(message: Buffer, expected: KernelRequest | undefined): void {
    const unique = message.readBigUInt64LE(8);
    if (expected !== undefined) this.requests.set(unique, expected);
    memory.set(message);
    promise(
      libc.write(kernelEnd, addressOf(memory), message.length) === message.length,
      'the device took no request',
    );
    const length = engine.device.receive();
    promise(length === message.length, 'the device gave another request');
    engine.tick();
    this.#dispatcher.dispatch(length);
    this.#turn();
  }

  /** The server sends bytes. */
  say(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#connection.lost; ) {
      const part = bytes.subarray(at, at + 65_536);
      memory.set(part);
      const count = libc.send(this.#server, addressOf(memory), part.length, MSG_DONTWAIT);
      promise(count > 0, 'the socket took nothing');
      this.said.push(part.subarray(0, count));
      at += count;
      this.#connection.receive(engine.tick());
    }
    this.#turn();
  }

  /** Abandons everything that waits; then every request must have a reply. */
  end(): void {
    this.#disk.failAll(EIO, new Ranges());
    this.#turn();
    libc.close(this.#server);
    promise(!engine.requests.busy, 'an operation is left');
    for (const [unique, { opcode, reply }] of this.requests)
      promise(reply !== undefined, `request ${unique} (opcode ${opcode}) was never answered`);
    const count = this.#disk.unflushed.list().length;
    promise(this.#disk.unflushed.bytes <= 65_536 + MAX_TRANSFER, `there are ${count} unflushed writes`);
  }

  #turn(): void {
    while (this.#syncWanted) {
      this.#syncWanted = false;
      engine.synced(this.#disk, true);
    }
    if (!this.#connection.lost) this.#connection.flush();
    this.#hearClient();
    for (;;) {
      const count = libc.recv(kernelEnd, addressOf(memory), memory.length, MSG_DONTWAIT);
      if (count < 0) return;
      this.#hearReply(Buffer.from(memory.subarray(0, count)));
    }
  }

  #hearReply(message: Buffer): void {
    promise(
      message.length >= OUT_HEADER && message.readUInt32LE(0) === message.length,
      'a reply miscounts itself',
    );
    const error = message.readInt32LE(4);
    if (message.readBigUInt64LE(8) === 0n && error > 0) {
      promise(
        error === FUSE_NOTIFY_INVAL_INODE && message.length === OUT_HEADER + 24,
        'a wrong notification',
      );
      return;
    }
    promise(error <= 0 && error >= LOWEST_ERROR, `a reply has the error ${error}`);
    promise(error === 0 || message.length === OUT_HEADER, 'an error with a body');
    const request = this.requests.get(message.readBigUInt64LE(8));
    promise(request !== undefined, 'a reply to nobody');
    promise(request.reply === undefined, 'two replies to one request');
    request.reply = { error: -error, body: message.subarray(OUT_HEADER) };
  }

  #hearClient(): void {
    for (;;) {
      const count = libc.recv(this.#server, addressOf(memory), memory.length, MSG_DONTWAIT);
      if (count <= 0) break;
      this.#heard = Buffer.concat([this.#heard, memory.subarray(0, count)]);
    }
    const header = this.#extended ? 32 : 28;
    while (this.#heard.length >= header) {
      const heard = this.#heard;
      const [flags, type] = [heard.readUInt16BE(4), heard.readUInt16BE(6)];
      const length = this.#extended ? Number(heard.readBigUInt64BE(24)) : heard.readUInt32BE(24);
      const end = header + (type === 1 ? length : 0);
      if (heard.length < end) return;
      this.#heard = heard.subarray(end);
      const cookie = heard.readBigUInt64BE(8);
      if (type === 2) continue;
      promise(!this.commands.has(cookie), 'a cookie is used again');
      this.commands.set(cookie, { type, flags, offset: heard.readBigUInt64BE(16), length });
    }
  }
}
