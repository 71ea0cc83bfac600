import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { devNull } from 'node:os';
import { expect, it, onTestFinished } from 'vitest';
import { O_CLOEXEC, O_NONBLOCK } from '../../../src/constants/open-flags.js';
import { addressOf, libc } from '../../../src/linux/libc.js';
import { pipe } from '../../../src/linux/pipe.js';
import {
  closeDescriptor,
  connectVsock,
  duplicate,
  isSocket,
  receiveDescriptor,
  setNonBlocking,
  setSocketBuffers,
  shutdownSocket,
  socketpair,
  vsockAddress,
} from '../../../src/linux/socket.js';
import { hex } from '../../support/hex.js';

/** The flags of an open descriptor, as the kernel reports them. */
function flagsOf(descriptor: number): number {
  const text = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8');
  return Number.parseInt(/flags:\s*([0-7]+)/.exec(text)?.[1] ?? '', 8);
}

function openPair(): [number, number] {
  const pair = socketpair();
  onTestFinished(() => {
    for (const end of pair) closeDescriptor(end);
  });
  return pair;
}

/** Sends `descriptor` with one byte: struct msghdr, iovec and cmsghdr laid out by hand (cmsg(3)). */
function sendDescriptor(socket: number, descriptor: number): void {
  const words = new BigUint64Array(14);
  const base = BigInt(addressOf(words));
  words.set([0n, 0n, base + 56n, 1n, base + 72n, 24n, 0n], 0);
  words.set([base + 104n, 1n], 7);
  words[9] = 20n;
  words[10] = (1n << 32n) | 1n;
  words[11] = BigInt(descriptor);
  words[13] = 0x58n;
  expect(libc.sendmsg(socket, Number(base), 0)).toBe(1);
  expect(words[13]).toBe(0x58n);
}

it('sockets: a pair is connected, and both ends close on exec', () => {
  const [left, right] = openPair();
  writeSync(left, 'there');
  const buffer = Buffer.alloc(16);
  expect(buffer.toString('latin1', 0, readSync(right, buffer))).toBe('there');
  for (const end of [left, right]) expect(flagsOf(end) & O_CLOEXEC).toBe(O_CLOEXEC);
});

it('sockets: makes a descriptor non-blocking, and leaves its other end as it is', () => {
  const [left, right] = openPair();
  setNonBlocking(left);
  expect(flagsOf(left) & O_NONBLOCK).toBe(O_NONBLOCK);
  expect(flagsOf(right) & O_NONBLOCK).toBe(0);
});

it('sockets: receives a descriptor of the same open file, closed on exec', () => {
  const [left, right] = openPair();
  const file = openSync(devNull, 'r');
  onTestFinished(() => closeSync(file));
  sendDescriptor(left, file);
  const received = receiveDescriptor(right);
  expect(received).toBeTypeOf('number');
  if (typeof received !== 'number') return;
  expect(received).not.toBe(file);
  expect(fstatSync(received).rdev).toBe(fstatSync(file).rdev);
  expect(flagsOf(received) & O_CLOEXEC).toBe(O_CLOEXEC);
  closeDescriptor(received);
});

it('sockets: receiving a descriptor distinguishes an empty socket from a closed one', () => {
  const [left, right] = openPair();
  setNonBlocking(right);
  expect(receiveDescriptor(right)).toBeUndefined();
  shutdownSocket(left);
  expect(receiveDescriptor(right)).toBeNull();
});

it('sockets: bytes without a descriptor count as none', () => {
  const [left, right] = openPair();
  writeSync(left, 'x');
  expect(receiveDescriptor(right)).toBeNull();
});

it('sockets: shutdown ends both directions, also for other owners of the socket', () => {
  const [left, right] = openPair();
  const copy = duplicate(left);
  onTestFinished(() => closeDescriptor(copy));
  shutdownSocket(left);
  expect(readSync(right, Buffer.alloc(1))).toBe(0);
  expect(readSync(copy, Buffer.alloc(1))).toBe(0);
});

it('sockets: distinguishes a stream socket from everything else', () => {
  const [left] = openPair();
  const { read, write } = pipe();
  onTestFinished(() => {
    closeDescriptor(read);
    closeDescriptor(write);
  });
  expect([left, read, -1].map(isSocket)).toEqual([true, false, false]);
});

it('sockets: requests buffers that hold more than the default', () => {
  const [left] = openPair();
  setNonBlocking(left);
  setSocketBuffers(left, 4 * 1024 * 1024);
  let sent = 0;
  const chunk = Buffer.alloc(65_536);
  try {
    for (;;) sent += writeSync(left, chunk);
  } catch (error) {
    expect(error).toMatchObject({ code: 'EAGAIN' });
  }
  const most = Number(readFileSync('/proc/sys/net/core/wmem_max', 'utf8'));
  expect(sent).toBeGreaterThan(Math.min(most, 1024 * 1024) / 2);
});

it('sockets: lays out the address of a vsock port', () => {
  const expected = hex`
    2800     | svm_family: AF_VSOCK
    0000     | svm_reserved1
    39300000 | svm_port
    01000000 | svm_cid: VMADDR_CID_LOCAL
    00000000 | svm_flags, svm_zero
  `;
  expect(vsockAddress(1, 12_345)).toEqual(expected);
});

it('sockets: connecting to vsock fails with an errno when nobody listens, or there is no vsock', async () => {
  await expect(connectVsock(1, 1)).rejects.toMatchObject({ name: 'SystemError', errno: expect.any(Number) });
});
