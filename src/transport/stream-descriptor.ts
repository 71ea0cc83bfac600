// Takes the descriptor of a stream away from Node.
//
// Used by connection.ts and tls-handover.ts, when nothing is buffered in the stream.

import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { openHolders, openListener, type PeerHandle } from '../linux/peer.js';
import { duplicate, setSocketBuffers } from '../linux/socket.js';
import { DescriptorStream } from './descriptor-stream.js';
import { reasonOf, TransportError } from './errors.js';

/** Bytes of a Unix socket's buffers each way: enough for some of the largest requests. */
export const SOCKET_BUFFER = 4 * 1024 * 1024;

/** Whether a stream is a plain socket. */
export function isBareSocket(stream: Duplex): stream is DescriptorStream | Socket {
  // A check for TLSSocket would load TLS for users that do without.
  return stream instanceof DescriptorStream || (stream instanceof Socket && !('encrypted' in stream));
}

/** The process that listens on the socket of a new stream, where that is known; see os/peer. */
export function listenerOf(stream: Duplex): PeerHandle | undefined {
  if (!(stream instanceof Socket) || stream.remoteFamily !== undefined) return undefined;
  const fd = descriptorOf(stream);
  return fd === undefined ? undefined : openListener(fd);
}

function descriptorOf(socket: Socket): number | undefined {
  const { fd } = (socket as Socket & { _handle?: { fd?: number } })._handle ?? {};
  return fd === undefined || fd < 0 ? undefined : fd;
}

/**
 * The processes that serve a stream, where they are known: those that have its other end open, and the one that
 * listens. The server must have sent something.
 * @param path of a Unix socket
 * @param listener the process that listens; its handle belongs to this function
 * @throws TransportError when no process has it open any more
 */
export function serversOf(
  stream: Duplex,
  path: string | undefined,
  listener?: PeerHandle,
): PeerHandle | undefined {
  if (!(stream instanceof Socket)) return listener;
  if (path !== undefined) return openHolders({ descriptor: descriptorOf(stream), path }, listener);
  if (listener !== undefined) return listener;
  const { localAddress, localPort, remoteAddress, remotePort } = stream;
  if (localAddress === undefined || localPort === undefined) return undefined;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  // Another machine's processes cannot be seen.
  if (localAddress !== remoteAddress && !/^(::ffff:)?127\.|^::1$/.test(remoteAddress)) return undefined;
  try {
    return openHolders({ localAddress, localPort, remoteAddress, remotePort });
  } catch (error) {
    throw new TransportError(reasonOf(error), { cause: error });
  }
}

/**
 * A non-blocking descriptor of the socket of `stream`, which is unusable afterwards; undefined when it is closed
 * already.
 */
export function takeStreamDescriptor(stream: DescriptorStream | Socket): number | undefined {
  if (stream instanceof DescriptorStream) return stream.destroyed ? undefined : stream.release();
  const fd = descriptorOf(stream);
  if (fd === undefined) return undefined;
  const copy = duplicate(fd);
  // TCP sizes its buffers itself; a Unix socket keeps its small ones.
  if (stream.remoteFamily === undefined) setSocketBuffers(copy, SOCKET_BUFFER);
  stream.destroy();
  return copy;
}
