// Drives a sans-IO Handshake over a stream: sends its bytes, and upgrades to TLS when it asks for that.
//
// Called by server.ts, which limits its time; the Handshake limits the size of each message. On failure it destroys the
// stream; otherwise the caller owns the returned stream.

import type { Duplex } from 'node:stream';
import { NbdError, NbdProtocolError } from '../nbd/errors.js';
import type { Handshake, HandshakeEvent } from '../nbd/handshake/handshake.js';
import { chunkServerOptions } from './chunk-program.js';
import { reasonOf, TransportError } from './errors.js';
import type { SecuredStream, TlsUpgrade } from './tls.js';

/** Milliseconds from the connection's start to the transmission phase. */
export const HANDSHAKE_TIME = 30_000;

/** The same for a server that reads a compressed file to its end first: milliseconds in which it moves nothing. */
const UNPACKING_TIME = 300_000;

/** How long a server may take until the transmission phase. */
export interface HandshakeLimit {
  readonly milliseconds: number;
  /** Whether only the time counts in which the server reads and writes nothing. */
  readonly allowsProgress: boolean;
}

/** The limit for the server that `argv` starts. One that works for ever must not delay the start for ever. */
export function handshakeLimit(argv: readonly string[]): HandshakeLimit {
  // As a word of nbdkit, or of one below another server.
  const isFilter = (word: string, i: number): boolean =>
    /(^|=)--filter=gzip$/.test(word) || (word === 'gzip' && argv[i - 1] === '--filter');
  const unpacks = chunkServerOptions(argv) !== undefined || argv.some(isFilter);
  return { milliseconds: unpacks ? UNPACKING_TIME : HANDSHAKE_TIME, allowsProgress: unpacks };
}

/** How a handshake ended: always with the event that its goal promises. */
export interface Negotiated {
  /** The stream to continue with; encrypted when TLS was negotiated. */
  readonly stream: Duplex;
  /** Takes over the session of an encrypted stream; see SecuredStream. */
  readonly handover: SecuredStream['handover'];
  readonly event: Exclude<HandshakeEvent, { type: 'send' } | { type: 'starttls' }>;
}

/** Runs `handshake` to its end; `tls` is undefined where TLS is not wanted. @throws NbdError, or the signal's reason */
export async function negotiate(
  plain: Duplex,
  handshake: Handshake,
  tls: TlsUpgrade | undefined,
  signal: AbortSignal,
): Promise<Negotiated> {
  let stream = plain;
  let handover: SecuredStream['handover'];
  let written = Promise.resolve();
  // Errors are seen by nextChunk; one that comes between two calls must not be thrown by the emitter.
  const ignore = () => undefined;
  stream.on('error', ignore);
  try {
    // The server speaks first.
    let events: HandshakeEvent[] = [];
    for (;;) {
      for (const event of events) {
        if (event.type === 'send') written = write(stream, event.bytes);
        else if (event.type !== 'starttls') {
          if (event.type === 'ready') {
            // The answer can arrive before Node reports that the request was written.
            await written;
            checkSilence(stream);
          }
          return { stream, handover, event };
        }
      }
      if (events.some(({ type }) => type === 'starttls')) {
        if (tls === undefined) throw new NbdProtocolError('the server started TLS, which was not requested');
        checkSilence(stream);
        ({ stream, handover } = await tls.secure(stream, signal));
        stream.on('error', ignore);
        events = handshake.tlsStarted();
      } else {
        const chunk = await nextChunk(stream, signal);
        if (chunk === undefined) throw closedEarly(handshake);
        events = handshake.receive(chunk);
      }
    }
  } catch (error) {
    const bye = signal.aborted ? new Uint8Array(0) : handshake.abort();
    if (bye.length > 0 && stream.writable) stream.end(bye, () => stream.destroy());
    else stream.destroy();
    if (error === signal.reason || error instanceof NbdError) throw error;
    if (tls !== undefined && stream !== plain) throw tls.explain(error);
    throw new TransportError(`the connection broke during the handshake: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** Resolves when the stream is done with the bytes; a failure shows when reading. */
function write(stream: Duplex, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    stream.write(bytes, () => resolve());
  });
}

function checkSilence(stream: Duplex): void {
  if (stream.readableLength > 0) {
    throw new NbdProtocolError('the server sent bytes where it must wait for the client');
  }
}

/** The next bytes of the stream, undefined at its end; rejects when it breaks or the signal fires. */
function nextChunk(stream: Duplex, signal: AbortSignal): Promise<Uint8Array | undefined> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      stream.removeListener('readable', readable);
      stream.removeListener('error', fail);
      stream.removeListener('end', ended);
      stream.removeListener('close', ended);
      signal.removeEventListener('abort', abort);
      act();
    };
    const readable = () => {
      const chunk: Uint8Array | null = stream.read();
      if (chunk !== null) settle(() => resolve(chunk));
    };
    const fail = (error: unknown) => settle(() => reject(error));
    const ended = () => (stream.errored ? fail(stream.errored) : settle(() => resolve(undefined)));
    const abort = () => settle(() => reject(signal.reason));
    stream.on('readable', readable);
    stream.on('error', fail);
    stream.on('end', ended);
    stream.on('close', ended);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    else if (stream.destroyed || stream.readableEnded) ended();
    else readable();
  });
}

function closedEarly(handshake: Handshake): TransportError {
  const { message, errno } = handshake.endOfStream() ?? { message: 'the server closed the connection' };
  return new TransportError(message, { errno });
}
