// Sockets as plain descriptors: pairs, options, vsock, and descriptors received from other processes.
//
// Never blocks, except where noted. The caller owns every returned descriptor.

import { EAGAIN, EINPROGRESS, EINTR, ETIMEDOUT } from '../constants/errno.js';
import { O_CLOEXEC, O_NONBLOCK } from '../constants/open-flags.js';
import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { VECTOR_SIZE } from './vector.js';

export const AF_UNIX = 1;
const AF_VSOCK = 40;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = O_CLOEXEC;
export const SOCK_NONBLOCK = O_NONBLOCK;
export const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const SO_TYPE = 3;
const SO_ERROR = 4;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
/** SO_SNDBUFFORCE before SO_SNDBUF, SO_RCVBUFFORCE before SO_RCVBUF. */
const SOCKET_BUFFERS = [
  [32, 7],
  [33, 8],
] as const;
const SCM_RIGHTS = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const SO_LINGER = 13;
/** TIOCOUTQ. */
const SIOCOUTQ = 0x5411;
const SHUT_RDWR = 2;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** Flags of recv(2) and send(2). */
export const MSG_PEEK = 2;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;

/** Milliseconds between two polls of a connection in progress. */
const CONNECT_LOOK = 2;
/** Milliseconds for a vsock connection. */
const CONNECT_TIME = 10_000;

/** Opens an unconnected socket, closed on exec. @throws SystemError */
export function openSocket(family: number, type: number, protocol = 0): number {
  const descriptor = libc.socket(family, type | SOCK_CLOEXEC, protocol);
  if (descriptor < 0) throw new SystemError(errno(), 'socket');
  return descriptor;
}

/** Makes two connected Unix stream sockets, closed on exec, blocking. @throws SystemError */
export function socketpair(): [number, number] {
  const ends = new Int32Array(2);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, addressOf(ends)) < 0) {
    throw new SystemError(errno(), 'socketpair');
  }
  return [ends[0], ends[1]];
}

/** Duplicates a descriptor, closed on exec. @throws SystemError */
export function duplicate(descriptor: number): number {
  const copy = libc.fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw new SystemError(errno(), 'fcntl');
  return copy;
}

export function closeDescriptor(descriptor: number): void {
  libc.close(descriptor);
}

/** Makes the open file of a descriptor non-blocking. @throws SystemError */
export function setNonBlocking(descriptor: number): void {
  const flags = libc.fcntl(descriptor, F_GETFL, 0);
  if (flags < 0 || libc.fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
    throw new SystemError(errno(), 'fcntl');
  }
}

/**
 * Sets both socket buffers to `bytes`. Without privileges the kernel's limits (net.core.wmem_max, rmem_max) apply.
 */
export function setSocketBuffers(descriptor: number, bytes: number): void {
  const value = new Int32Array([bytes]);
  for (const [forced, option] of SOCKET_BUFFERS) {
    if (libc.setsockopt(descriptor, SOL_SOCKET, forced, addressOf(value), value.byteLength) < 0) {
      libc.setsockopt(descriptor, SOL_SOCKET, option, addressOf(value), value.byteLength);
    }
  }
}

/** Makes the kernel discard undelivered data when the descriptor is closed (TCP: sends a reset). */
export function dropOnClose(descriptor: number): void {
  const linger = new Int32Array([1, 0]);
  libc.setsockopt(descriptor, SOL_SOCKET, SO_LINGER, addressOf(linger), linger.byteLength);
}

/** Ends both directions of a connection, even if other processes have it open. */
export function shutdownSocket(descriptor: number): void {
  libc.shutdown(descriptor, SHUT_RDWR);
}

function socketOption(descriptor: number, option: number): number {
  const value = new Int32Array(1);
  const length = new Uint32Array([value.byteLength]);
  if (libc.getsockopt(descriptor, SOL_SOCKET, option, addressOf(value), addressOf(length)) < 0) return -1;
  return value[0];
}

/** Memory of the messages in a Unix socket that its other end has not read to their ends, in bytes. */
export function unreadBytes(descriptor: number): number {
  const value = new Int32Array(1);
  return libc.ioctl(descriptor, SIOCOUTQ, addressOf(value)) < 0 ? 0 : value[0];
}

/** How often the kernel has retransmitted the oldest segment of a TCP connection; 0 for other sockets. */
export function retransmissions(descriptor: number): number {
  // struct tcp_info begins with bytes: tcpi_state, tcpi_ca_state, tcpi_retransmits.
  const info = new Uint8Array(8);
  const length = new Uint32Array([info.length]);
  const result = libc.getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, addressOf(info), addressOf(length));
  return result < 0 ? 0 : info[2];
}

/** Whether a descriptor is a stream socket. */
export function isSocket(descriptor: number): boolean {
  return socketOption(descriptor, SO_TYPE) === SOCK_STREAM;
}

/** Whether a descriptor is a Unix socket. */
export function isUnixSocket(descriptor: number): boolean {
  return socketOption(descriptor, SO_DOMAIN) === AF_UNIX;
}

/** Whether a descriptor is a socket that listens. */
export function isListening(descriptor: number): boolean {
  return socketOption(descriptor, SO_ACCEPTCONN) === 1;
}

/** `struct sockaddr_vm` of a CID and a port, both 32 bits: 16 bytes. */
export function vsockAddress(cid: number, port: number): Uint8Array {
  const address = new Uint8Array(16);
  new Uint16Array(address.buffer)[0] = AF_VSOCK;
  const words = new Uint32Array(address.buffer);
  words[1] = port;
  words[2] = cid;
  return address;
}

const later = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });

/**
 * Connects to a vsock port (0 to 2^32-1) of a virtual machine or of the host. The descriptor is non-blocking.
 * @throws SystemError: ENODEV for an unknown CID, ECONNRESET without a listener, ETIMEDOUT after 10 s; or the signal's
 *   reason
 */
export async function connectVsock(cid: number, port: number, signal?: AbortSignal): Promise<number> {
  const descriptor = openSocket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK);
  try {
    const address = vsockAddress(cid, port);
    if (libc.connect(descriptor, addressOf(address), address.length) < 0) {
      const error = errno();
      if (error !== EINPROGRESS && error !== EINTR) throw new SystemError(error, 'connect');
      await connected(descriptor, signal);
    }
    return descriptor;
  } catch (error) {
    libc.close(descriptor);
    throw error;
  }
}

async function connected(descriptor: number, signal: AbortSignal | undefined): Promise<void> {
  const entry = new Int16Array(4);
  new Int32Array(entry.buffer)[0] = descriptor;
  const deadline = performance.now() + CONNECT_TIME;
  for (;;) {
    signal?.throwIfAborted();
    entry[2] = 4;
    entry[3] = 0;
    if (libc.poll(addressOf(entry), 1, 0) > 0) break;
    if (performance.now() > deadline) throw new SystemError(ETIMEDOUT, 'connect');
    await later(CONNECT_LOOK);
  }
  const error = socketOption(descriptor, SO_ERROR);
  if (error !== 0) throw new SystemError(error, 'connect');
}

/** Size of a struct msghdr in bytes. */
export const MESSAGE_SIZE = 56;

/**
 * Offsets of the parts of a message in one buffer: struct msghdr, struct iovec, struct cmsghdr with a descriptor, and a
 * byte of data. With one buffer, no part can be garbage-collected during the call.
 */
const MESSAGE = 0;
const VECTOR = MESSAGE + MESSAGE_SIZE;
const CONTROL = VECTOR + VECTOR_SIZE;
const CONTROL_SIZE = 24;
const DATA = CONTROL + CONTROL_SIZE;

/**
 * Receives one descriptor that the other end sends with SCM_RIGHTS. Undefined: none yet (non-blocking sockets); null:
 * the other end has closed or sent something else. @throws SystemError
 */
export function receiveDescriptor(descriptor: number): number | undefined | null {
  const words = new BigUint64Array((DATA + 8) / 8);
  const numbers = new Int32Array(words.buffer);
  const base = addressOf(words);
  words[VECTOR / 8] = BigInt(base + DATA);
  words[VECTOR / 8 + 1] = 1n;
  words[MESSAGE / 8 + 2] = BigInt(base + VECTOR);
  words[MESSAGE / 8 + 3] = 1n;
  words[MESSAGE / 8 + 4] = BigInt(base + CONTROL);
  words[MESSAGE / 8 + 5] = BigInt(CONTROL_SIZE);
  const count = libc.recvmsg(descriptor, base + MESSAGE, MSG_CMSG_CLOEXEC);
  if (count < 0) {
    const error = errno();
    if (error === EAGAIN || error === EINTR) return undefined;
    throw new SystemError(error, 'recvmsg');
  }
  const [level, type, received] = numbers.subarray(CONTROL / 4 + 2);
  return level === SOL_SOCKET && type === SCM_RIGHTS ? received : null;
}
