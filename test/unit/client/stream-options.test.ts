import { finished } from 'node:stream/promises';
import { expect, test } from 'vitest';
import type { ReadStreamOptions } from '../../../src/client/options.js';
import { rangeOf, readStream, writeStream } from '../../../src/client/streams.js';

/** A source that counts its bytes in flight and holds each request until `release`. */
class HeldSource {
  inFlight = 0;
  most = 0;
  longest = 0;
  readonly #held: (() => void)[] = [];

  read(_offset: bigint, length: number): Promise<Buffer> {
    return this.#hold(length).then(() => Buffer.alloc(length));
  }

  write(_offset: bigint, bytes: Uint8Array): Promise<void> {
    return this.#hold(bytes.length);
  }

  release(): void {
    for (const go of this.#held.splice(0)) go();
  }

  async #hold(length: number): Promise<void> {
    this.inFlight += length;
    this.most = Math.max(this.most, this.inFlight);
    this.longest = Math.max(this.longest, length);
    await new Promise<void>((resolve) => {
      this.#held.push(resolve);
    });
    this.inFlight -= length;
  }
}

/** Lets a stream and its source work until `done` is true. */
async function work(source: HeldSource, done: () => boolean): Promise<void> {
  while (!done()) {
    await new Promise((resolve) => setImmediate(resolve));
    source.release();
  }
}

test.each([
  [undefined, 4 * 2 ** 20, 2 ** 20],
  [100_000, 100_000, 100_000],
  [2.5 * 2 ** 20, 2 * 2 ** 20, 2 ** 20],
])('highWaterMark: a read stream with %s has %d bytes in flight', async (highWaterMark, most, longest) => {
  const source = new HeldSource();
  const stream = readStream(source, { start: 0n, end: 2n ** 23n }, { highWaterMark });
  stream.resume();
  await work(source, () => stream.readableEnded);
  expect(source).toMatchObject({ most, longest });
});

test('highWaterMark: a write stream waits while it has as many bytes in flight', async () => {
  const source = new HeldSource();
  const stream = writeStream(source, 0n, undefined, { highWaterMark: 10_000 });
  for (let i = 0; i < 20; i++) stream.write(Buffer.alloc(4000));
  stream.end();
  const end = finished(stream);
  await work(source, () => stream.writableFinished);
  await end;
  expect(source.most).toBe(12_000);
});

test('start and end: mean bytes from and to, as in node:fs', () => {
  expect(rangeOf({ start: 5, end: 9 })).toMatchObject({ offset: 5, length: 5n });
  expect(rangeOf({ end: 0n })).toMatchObject({ length: 1n });
  expect(rangeOf({ start: 5n, end: 4 })).toMatchObject({ length: 0n });
  expect(rangeOf({ start: 7 })).toMatchObject({ offset: 7, length: undefined });
});

test.each<[ReadStreamOptions, string]>([
  [{ start: 1, offset: 1 }, 'ERR_INVALID_ARG_VALUE'],
  [{ end: 1, length: 1 }, 'ERR_INVALID_ARG_VALUE'],
  [{ start: 5, end: 3 }, 'ERR_OUT_OF_RANGE'],
  [{ end: 0.5 }, 'ERR_OUT_OF_RANGE'],
])('start and end: %o is refused', (options, code) => {
  expect(() => rangeOf(options)).toThrow(expect.objectContaining({ name: 'NbdArgumentError', code }));
});

test.each([0, -1, 0.5, Number.NaN])('highWaterMark: %d is refused', (highWaterMark) => {
  const source = new HeldSource();
  const refused = expect.objectContaining({ name: 'NbdArgumentError', code: 'ERR_OUT_OF_RANGE' });
  expect(() => readStream(source, { start: 0n, end: 1n }, { highWaterMark })).toThrow(refused);
  expect(() => writeStream(source, 0n, undefined, { highWaterMark })).toThrow(refused);
});
