// Requests over a socketpair, which shares the pages of large payloads instead of copying them.

import { describe, expect, onTestFinished, test } from 'vitest';
import { EAGAIN, EPIPE } from '../../../../src/constants/errno.js';
import { WRITE_DATA } from '../../../../src/fuse/layout.js';
import { addressOf, libc } from '../../../../src/linux/libc.js';
import {
  closeDescriptor,
  setNonBlocking,
  setSocketBuffers,
  socketpair,
} from '../../../../src/linux/socket.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../../src/nbd/constants.js';
import { encodeRequest, REQUEST_LENGTH } from '../../../../src/nbd/transmission/request.js';
import { PlainChannel } from '../../../../src/worker/connection/channel.js';
import { Sender } from '../../../../src/worker/connection/connection.js';
import { canSendZeroCopy, ZeroCopySender } from '../../../../src/worker/connection/zero-copy.js';
import { CommandTable, type NbdCommand } from '../../../../src/worker/flight/nbd-command.js';
import { BufferPool, type PooledBuffer } from '../../../../src/worker/memory/buffer-pool.js';

const MIB = 1024 * 1024;
const CONNECTION = { number: 1 };

class Pair {
  readonly zeroCopy = new ZeroCopySender(true);
  readonly buffers = new BufferPool(64 * MIB);
  readonly commands = new CommandTable();
  readonly sender: Sender;
  readonly near: number;
  /** Bytes that the server has read. */
  taken = 0;
  readonly #far: number;
  readonly #memory = new Uint8Array(new ArrayBuffer(MIB));
  #count = 0;

  constructor(bufferSize: number) {
    const [near, far] = socketpair();
    this.near = near;
    this.#far = far;
    for (const end of [near, far]) {
      setNonBlocking(end);
      setSocketBuffers(end, bufferSize);
    }
    this.sender = new Sender(new PlainChannel(near, this.zeroCopy), false, this.buffers);
    onTestFinished(() => {
      closeDescriptor(near);
      closeDescriptor(far);
    });
  }

  /** A WRITE, not sent, whose payload of `length` bytes lies at byte `at` of a large buffer. */
  write(length: number, at: number): { command: NbdCommand; buffer: PooledBuffer; bytes: Buffer } {
    const buffer = this.buffers.take(MIB);
    const command = this.commands.take();
    const payload = Buffer.from(Array.from({ length }, (_, i) => (i * 31 + (i >> 12) + this.#count) & 255));
    buffer.bytes.set(payload, at);
    Object.assign(command, { type: NBD_CMD_WRITE, offsetLo: this.#count++, length, buffer, bufferAt: at });
    const header = Buffer.alloc(REQUEST_LENGTH);
    encodeRequest(new DataView(header.buffer, header.byteOffset), 0, false, command);
    command.giveTo(CONNECTION);
    this.sender.push(command);
    return { command, buffer, bytes: Buffer.concat([header, payload]) };
  }

  /** The bytes that have arrived, up to `most`. */
  take(most = Number.POSITIVE_INFINITY): Buffer {
    const parts: Buffer[] = [];
    for (let got = 0; got < most; ) {
      const wanted = Math.min(most - got, this.#memory.length);
      const count = libc.read(this.#far, addressOf(this.#memory), wanted);
      if (count <= 0) break;
      parts.push(Buffer.from(this.#memory.subarray(0, count)));
      got += count;
      this.taken += count;
    }
    return Buffer.concat(parts);
  }
}

test.each([
  ['a page', WRITE_DATA],
  ['the middle of one', WRITE_DATA + 1234],
])(
  'sender: payloads that begin with %s arrive whole and in order, however little the socket takes at once',
  (_, at) => {
    const pair = new Pair(128 * 1024);
    const writes = [MIB, 64 * 1024, 100, 64 * 1024 - 1, MIB - 1234, 700_001].map((length) =>
      pair.write(length, at),
    );
    const wanted = Buffer.concat(writes.map(({ bytes }) => bytes));
    const parts: Buffer[] = [];
    let sent = 0;
    for (let turn = 0; turn < 10_000; turn++) {
      const result = pair.sender.flush();
      sent += pair.sender.sent;
      if (result === 0) break;
      expect(result).toBe(EAGAIN);
      expect(pair.sender.idle).toBe(false);
      parts.push(pair.take(10_000 + turn * 777));
    }
    parts.push(pair.take());
    expect(pair.sender.idle).toBe(true);
    expect(sent).toBe(wanted.length);
    expect(Buffer.concat(parts).equals(wanted)).toBe(true);
    expect(pair.zeroCopy.usable).toBe(true);
    expect(writes.map(({ command }) => command.shared)).toEqual([true, true, false, false, true, true]);
  },
);

test('sender: zero-copy bytes in the socket stay unchanged, whatever becomes of the buffer', () => {
  const pair = new Pair(4 * MIB);
  const { command, buffer, bytes } = pair.write(MIB, WRITE_DATA);
  expect(pair.sender.flush()).toBe(0);
  expect(buffer.shared).toBe(1);
  // The connection is lost: the command goes out again elsewhere, is answered there, and the buffer is free.
  pair.commands.renew(command);
  expect(command.shared).toBe(false);
  pair.buffers.release(buffer);
  expect(buffer.shared).toBe(0);
  const again = pair.buffers.take(MIB);
  expect(again).toBe(buffer);
  again.bytes.fill(0x77);
  expect(pair.take().equals(bytes)).toBe(true);
});

test('sender: without the mark the server would read later contents of the buffer: the socket shares its pages', () => {
  const pair = new Pair(4 * MIB);
  const { buffer, bytes } = pair.write(MIB, WRITE_DATA);
  expect(pair.sender.flush()).toBe(0);
  buffer.bytes.fill(0x77);
  const taken = pair.take();
  expect(taken.length).toBe(bytes.length);
  expect(taken.subarray(REQUEST_LENGTH).every((byte) => byte === 0x77)).toBe(true);
});

test('sender: no zero copy of buffers that share their pages, nor without a pipe', () => {
  const pair = new Pair(4 * MIB);
  const small = pair.buffers.take(128 * 1024);
  expect(small.shareable).toBe(false);
  const command = pair.commands.take();
  Object.assign(command, { type: NBD_CMD_WRITE, length: 128 * 1024, buffer: small, bufferAt: 128 });
  command.giveTo(CONNECTION);
  pair.sender.push(command);
  expect(pair.sender.flush()).toBe(0);
  expect(command.shared).toBe(false);
  expect(pair.take().length).toBe(REQUEST_LENGTH + 128 * 1024);

  const sender = new Sender(new PlainChannel(pair.near), false, pair.buffers);
  const { command: other } = pair.write(MIB, WRITE_DATA);
  sender.push(other);
  expect(sender.flush()).toBe(0);
  expect(other.shared).toBe(false);
});

test('sender: reports a closed server', () => {
  const pair = new Pair(4 * MIB);
  pair.write(MIB, WRITE_DATA);
  libc.shutdown(pair.near, 2);
  expect(pair.sender.flush()).toBe(EPIPE);
});

test('sender: pages still shared at the end stay unchanged, too', () => {
  const pair = new Pair(4 * MIB);
  const { buffer, bytes } = pair.write(MIB, WRITE_DATA);
  expect(pair.sender.flush()).toBe(0);
  pair.buffers.discardShared();
  buffer.bytes.fill(0x77);
  expect(pair.take().equals(bytes)).toBe(true);
});

test.each([
  ['6.5.0', true],
  ['6.18.44-fc', true],
  ['6.4.16', false],
  ['6.1.0-25-amd64', false],
  ['5.10.0', false],
])('sender: zero copy pays on kernel %s: %s', (release, expected) => {
  expect(canSendZeroCopy(release)).toBe(expected);
});

/** READs, sent as one message. */
function sendReads(pair: Pair, count: number): void {
  for (let i = 0; i < count; i++) {
    const command = pair.commands.take();
    Object.assign(command, { type: NBD_CMD_READ, length: 512 });
    command.giveTo(CONNECTION);
    pair.sender.push(command);
  }
  expect(pair.sender.flush()).toBe(0);
}

describe('sender: a zero-copy payload', () => {
  test.each([
    ['nothing', () => undefined],
    ['six READs in one message', (pair: Pair) => sendReads(pair, 6)],
    ['fifty READs in one message', (pair: Pair) => sendReads(pair, 50)],
    ['fifty READs in as many messages', (pair: Pair) => Array.from({ length: 50 }, () => sendReads(pair, 1))],
    [
      'another large WRITE',
      (pair: Pair) => {
        pair.write(MIB, WRITE_DATA);
        pair.sender.flush();
      },
    ],
  ])('counts as unread before its last byte, and as read after it, with %s behind it', (_, follow) => {
    const pair = new Pair(4 * MIB);
    const { command, bytes } = pair.write(MIB, WRITE_DATA);
    expect(pair.sender.flush()).toBe(0);
    follow(pair);
    for (const left of [MIB, 2048, 1]) {
      pair.take(bytes.length - left - pair.taken);
      expect(pair.sender.isRead(command)).toBe(false);
    }
    pair.take(1);
    expect(pair.sender.isRead(command)).toBe(true);
  });

  test('counts as unread while the socket has no room for all of it', () => {
    const pair = new Pair(128 * 1024);
    const { command } = pair.write(MIB, WRITE_DATA);
    expect(pair.sender.flush()).toBe(EAGAIN);
    pair.take();
    expect(pair.sender.isRead(command)).toBe(false);
  });
});
