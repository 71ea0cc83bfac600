// Node streams over an export, with several requests in flight so that a remote server stays busy.
//
// A stream owns nothing: destroying it does not affect the client.

import { Readable, Writable } from 'node:stream';
import { NbdArgumentError } from '../nbd/errors.js';
import type { Abortable, RangeOptions, ReadStreamOptions, StreamOptions } from './options.js';
import type { ByteRange } from './ranges.js';

/** Maximum length of a request in bytes. */
const CHUNK = 1024 * 1024;
/** Bytes requested ahead, or in flight, by default. */
const HIGH_WATER_MARK = 4 * CHUNK;

/** Most writes of a stream in flight, however short. */
const MOST_WRITES = 64;

/** The part of a client that a stream uses. */
export interface StreamSource {
  read(offset: bigint, length: number, options: Abortable): Promise<Buffer>;
  write(offset: bigint, bytes: Uint8Array, options: Abortable): Promise<void>;
}

type Flow = Pick<StreamOptions, 'signal' | 'highWaterMark'>;

function checkHighWaterMark({ highWaterMark = HIGH_WATER_MARK }: Flow): number {
  if (Number.isSafeInteger(highWaterMark) && highWaterMark > 0) return highWaterMark;
  throw new NbdArgumentError('bad highWaterMark: it must be a whole number of bytes, 1 or more', {
    code: typeof highWaterMark === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE',
  });
}

/** The range that `start` and `end`, or `offset` and `length`, mean. @throws NbdArgumentError if both do */
export function rangeOf({ start, end, offset, length, signal }: ReadStreamOptions): RangeOptions {
  if (start !== undefined && offset !== undefined)
    throw new NbdArgumentError('bad options of a stream: start and offset are the same, pass one');
  if (end !== undefined && length !== undefined)
    throw new NbdArgumentError('bad options of a stream: pass end or length, not both');
  const first = start ?? offset;
  if (end === undefined) return { offset: first, length, signal };
  const isPlain = typeof end === 'bigint' || Number.isSafeInteger(end);
  const count = isPlain && isWhole(first) ? BigInt(end) + 1n - BigInt(first ?? 0) : -1n;
  if (count >= 0n) return { offset: first, length: count, signal };
  throw new NbdArgumentError('bad end of a stream: it must be a whole number, start - 1 or more', {
    code: 'ERR_OUT_OF_RANGE',
  });
}

const isWhole = (value: unknown): boolean =>
  value === undefined || typeof value === 'bigint' || Number.isSafeInteger(value);

async function* chunks(source: StreamSource, { start, end }: ByteRange, ahead: number, { signal }: Flow) {
  const size = Math.min(CHUNK, ahead);
  const replies: Promise<Buffer>[] = [];
  let next = start;
  const fill = () => {
    while (replies.length < Math.max(1, Math.floor(ahead / size)) && next < end) {
      const length = Number(end - next < BigInt(size) ? end - next : BigInt(size));
      const reply = source.read(next, length, { signal });
      // It may reject before the loop awaits it; without this Node would report an unhandled rejection.
      reply.catch(() => undefined);
      replies.push(reply);
      next += BigInt(length);
    }
  };
  for (fill(); replies.length > 0; fill()) {
    const reply = replies.shift();
    if (reply !== undefined) yield await reply;
  }
}

/** Makes a stream that reads a range in order, with `highWaterMark` bytes in flight, in requests of up to 1 MiB. */
export function readStream(source: StreamSource, range: ByteRange, flow: Flow = {}): Readable {
  const ahead = checkHighWaterMark(flow);
  const highWaterMark = Math.min(CHUNK, ahead);
  return Readable.from(chunks(source, range, ahead, flow), { objectMode: false, highWaterMark });
}

/** Makes a stream that writes from `start` on, with up to `highWaterMark` bytes in flight; `finish` follows `flush`. */
export function writeStream(
  source: StreamSource,
  start: bigint,
  flush: (() => Promise<void>) | undefined,
  flow: Flow = {},
): Writable {
  const most = checkHighWaterMark(flow);
  let offset = start;
  let failure: Error | undefined;
  let bytesInFlight = 0;
  const inFlight = new Set<Promise<void>>();
  const send = (bytes: Uint8Array) => {
    bytesInFlight += bytes.length;
    const reply: Promise<void> = source
      .write(offset, bytes, { signal: flow.signal })
      .catch((error: Error) => {
        failure ??= error;
      })
      .finally(() => {
        bytesInFlight -= bytes.length;
        inFlight.delete(reply);
      });
    inFlight.add(reply);
    offset += BigInt(bytes.length);
  };
  return new Writable({
    highWaterMark: Math.min(CHUNK, most),
    decodeStrings: true,
    write(chunk: Buffer, _encoding, done) {
      send(chunk);
      if (bytesInFlight < most && inFlight.size < MOST_WRITES) done(failure);
      else void Promise.race(inFlight).then(() => done(failure));
    },
    final(done) {
      Promise.all(inFlight)
        .then(async () => {
          if (failure === undefined) await flush?.();
        })
        .then(() => done(failure), done);
    },
  });
}
