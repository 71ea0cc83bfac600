// Connects to a server that already runs, and returns a stream; starts no servers.
//
// Called by source.ts for each connection; socket-activation.ts uses `connectUnix`. The caller owns the stream.

import { stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { basename, isAbsolute, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { EAGAIN, ECONNREFUSED, ENOENT, EPROTOTYPE } from '../constants/errno.js';
import { SystemError } from '../linux/errno.js';
import { keptPath } from '../linux/kept-path.js';
import { connectVsock, isSocket } from '../linux/socket.js';
import { connectUnixSocket } from '../linux/unix-socket.js';
import { percentEncode } from '../nbd/uri/percent.js';
import { DescriptorStream } from './descriptor-stream.js';
import { codeOf, errnoOf, reasonOf, TransportError } from './errors.js';
import { ReceivingSocket } from './receiving-socket.js';
import { describeTarget, type Target } from './target.js';
import { connectTcp } from './tcp.js';

/** A target that needs no child process. */
export type DialTarget = Extract<Target, { kind: 'tcp' | 'unix' | 'vsock' | 'fd' }>;

/** Milliseconds between two attempts to connect to a Unix socket whose server has no room for another connection. */
const FULL_TIME = 20;

/**
 * Connects to `target`. @param directory the origin of a relative path
 * @throws TransportError saying where and why, or the signal's reason
 */
export async function dial(target: DialTarget, signal?: AbortSignal, directory = '.'): Promise<Duplex> {
  switch (target.kind) {
    case 'tcp':
      return connectTcp(target.host, target.port, signal);
    case 'unix':
      return connectUnix(target.path, signal, directory);
    case 'vsock':
      return dialVsock(target.cid, target.port, signal);
    case 'fd':
      return streamOfDescriptor(target.fd);
  }
}

/** Connects to a Unix socket, by path or (beginning with NUL) abstract name; otherwise as `dial`. */
export async function connectUnix(path: string, signal?: AbortSignal, directory = '.'): Promise<Socket> {
  const where = describeTarget({ kind: 'unix', path });
  if (path === '' || (!path.startsWith('\0') && path.includes('\0')))
    throw new TransportError(`cannot connect to ${where}: it is not a path`);
  const full = path.startsWith('\0') || isAbsolute(path) ? path : join(directory, path);
  try {
    const fd = await connectWhenAccepted(keptPath(full), signal);
    const socket = new ReceivingSocket({ fd, readable: true, writable: true });
    // An error can come before the caller listens for it.
    socket.on('error', () => undefined);
    return socket;
  } catch (error) {
    signal?.throwIfAborted();
    throw new TransportError(
      `cannot connect to ${where}: ${reasonOf(error)}${await unixAdvice(full, error)}`,
      {
        errno: errnoOf(error),
        cause: error,
      },
    );
  }
}

/** Waits while the server has no room for another connection, which Unix sockets report at once. */
async function connectWhenAccepted(path: string, signal: AbortSignal | undefined): Promise<number> {
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await connectUnixSocket(path);
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== EAGAIN) throw error;
      await delay(FULL_TIME, undefined, { signal });
    }
  }
}

async function unixAdvice(path: string, error: unknown): Promise<string> {
  const errno = errnoOf(error);
  if (errno === ENOENT && /^@[^/]+$/.test(basename(path)))
    return `; for an abstract socket write nbd+unix:///?socket=%00${percentEncode(basename(path).slice(1))}`;
  if (errno === EPROTOTYPE) return '; it is not a stream socket';
  if (errno !== ECONNREFUSED) return '';
  const isSocket = path.startsWith('\0') || ((await stat(path).catch(() => undefined))?.isSocket() ?? true);
  return isSocket ? '; is the server still running?' : '; it is not a socket';
}

async function dialVsock(cid: number, port: number, signal?: AbortSignal): Promise<Duplex> {
  try {
    return new DescriptorStream(await connectVsock(cid, port, signal));
  } catch (error) {
    signal?.throwIfAborted();
    const next =
      codeOf(error) === 'ENODEV' || errnoOf(error) === 19
        ? '; no such machine, or no vsock in this kernel'
        : '';
    throw new TransportError(`cannot connect to vsock ${cid}:${port}: ${reasonOf(error)}${next}`, {
      errno: errnoOf(error),
      cause: error,
    });
  }
}

/** Wraps a connected stream socket of any family; the stream owns the descriptor from then on. */
export function streamOfDescriptor(fd: number): Duplex {
  if (!isSocket(fd)) throw new TransportError(`cannot use descriptor ${fd}: it is not an open socket`);
  try {
    return new ReceivingSocket({ fd, readable: true, writable: true });
  } catch {
    // Node supports TCP and Unix sockets only.
    return new DescriptorStream(fd);
  }
}
