// Connects to a server that already runs, and returns a stream; starts no servers.
//
// Called by source.ts for each connection; socket-activation.ts uses `connectUnix`. The caller owns the stream.

import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { UNIX_PATH_MAX } from '../linux/datagram.js';
import { connectVsock, isSocket } from '../linux/socket.js';
import { DescriptorStream } from './descriptor-stream.js';
import { codeOf, errnoOf, reasonOf, TransportError } from './errors.js';
import { describeTarget, type Target } from './target.js';
import { connectSocket, connectTcp } from './tcp.js';

/** A target that needs no child process. */
export type DialTarget = Extract<Target, { kind: 'tcp' | 'unix' | 'vsock' | 'fd' }>;

/** Connects to `target`. @throws TransportError saying where and why, or the signal's reason */
export async function dial(target: DialTarget, signal?: AbortSignal): Promise<Duplex> {
  switch (target.kind) {
    case 'tcp':
      return connectTcp(target.host, target.port, signal);
    case 'unix':
      return connectUnix(target.path, signal);
    case 'vsock':
      return dialVsock(target.cid, target.port, signal);
    case 'fd':
      return streamOfDescriptor(target.fd);
  }
}

/** Connects to a Unix socket, by path or (beginning with NUL) abstract name. */
export async function connectUnix(path: string, signal?: AbortSignal): Promise<Socket> {
  const where = describeTarget({ kind: 'unix', path });
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw new TransportError(`cannot connect to ${where}: the path is longer than ${UNIX_PATH_MAX} bytes`);
  }
  try {
    return await connectSocket({ path }, signal);
  } catch (error) {
    signal?.throwIfAborted();
    const next = codeOf(error) === 'ECONNREFUSED' ? '; is the server still running?' : '';
    throw new TransportError(`cannot connect to ${where}: ${reasonOf(error)}${next}`, {
      errno: errnoOf(error),
      cause: error,
    });
  }
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
    return new Socket({ fd, readable: true, writable: true });
  } catch {
    // Node supports TCP and Unix sockets only.
    return new DescriptorStream(fd);
  }
}
