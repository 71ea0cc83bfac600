// Node streams over an export, with several requests in flight so that a remote server stays busy.
//
// A stream owns nothing: destroying it does not affect the client.

import { Readable, Writable } from 'node:stream';
import type { ByteRange } from './ranges.js';

/** Length of a request in bytes. */
const CHUNK = 1024 * 1024;
/** Most requests in flight of one stream. */
const DEPTH = 4;

/** The part of a client that a stream uses. */
export interface StreamSource {
  read(offset: bigint, length: number, options: { signal?: AbortSignal }): Promise<Buffer>;
  write(offset: bigint, bytes: Uint8Array, options: { signal?: AbortSignal }): Promise<void>;
  flush(): Promise<void>;
}

async function* chunks(source: StreamSource, { start, end }: ByteRange, signal: AbortSignal | undefined) {
  const ahead: Promise<Buffer>[] = [];
  let next = start;
  const fill = () => {
    while (ahead.length < DEPTH && next < end) {
      const length = Number(end - next < BigInt(CHUNK) ? end - next : BigInt(CHUNK));
      const reply = source.read(next, length, { signal });
      // It may reject before the loop awaits it; without this Node would report an unhandled rejection.
      reply.catch(() => undefined);
      ahead.push(reply);
      next += BigInt(length);
    }
  };
  for (fill(); ahead.length > 0; fill()) {
    const reply = ahead.shift();
    if (reply !== undefined) yield await reply;
  }
}

/** Makes a stream that reads a range in order, with four requests of 1 MiB in flight. */
export function readStream(source: StreamSource, range: ByteRange, signal?: AbortSignal): Readable {
  return Readable.from(chunks(source, range, signal), { objectMode: false, highWaterMark: CHUNK });
}

/** Makes a stream that writes from `start` on, with up to four requests in flight; `finish` follows a flush. */
export function writeStream(
  source: StreamSource,
  start: bigint,
  flush: boolean,
  signal?: AbortSignal,
): Writable {
  let offset = start;
  let failure: Error | undefined;
  const inFlight = new Set<Promise<void>>();
  const send = (bytes: Uint8Array) => {
    const reply: Promise<void> = source
      .write(offset, bytes, { signal })
      .catch((error: Error) => {
        failure ??= error;
      })
      .finally(() => inFlight.delete(reply));
    inFlight.add(reply);
    offset += BigInt(bytes.length);
  };
  return new Writable({
    highWaterMark: CHUNK,
    decodeStrings: true,
    write(chunk: Buffer, _encoding, done) {
      send(chunk);
      if (inFlight.size < DEPTH) done(failure);
      else void Promise.race(inFlight).then(() => done(failure));
    },
    final(done) {
      Promise.all(inFlight)
        .then(async () => {
          if (failure === undefined && flush) await source.flush();
        })
        .then(() => done(failure), done);
    },
  });
}
