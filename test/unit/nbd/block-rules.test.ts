// The rules of block sizes, against a model that checks every byte.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Blocks,
  blocksOf,
  payloadPart,
  splitAtBlocks,
  splitIntoParts,
  splitTail,
  tailBlock,
  wideLength,
  widen,
} from '../../../src/nbd/block-rules.js';
import type { ByteRange } from '../../../src/nbd/byte-range.js';

const sizes = (minimum: number) => ({ minimum, preferred: 4096, maximum: 65_536 });

/** Blocks of 1 to 16 bytes, of a disk of at most 100, and a range on it. `advertised`: else the disk has no tail. */
const disk = fc
  .record({
    minimum: fc.constantFrom(1, 2, 4, 8, 16),
    size: fc.integer({ min: 1, max: 100 }),
    advertised: fc.boolean(),
    ends: fc.tuple(fc.nat(100), fc.nat(100)),
  })
  .map(({ minimum, size, advertised, ends }) => {
    const blocks: Blocks = { minimum, size: BigInt(size), tail: advertised ? size % minimum : 0 };
    const [start, end] = ends.map((at) => Math.min(at, size)).sort((a, b) => a - b);
    return { blocks, range: { start: BigInt(start), end: BigInt(end) } };
  });

const bytesOf = ({ start, end }: ByteRange): number[] =>
  Array.from({ length: Math.max(0, Number(end - start)) }, (_, i) => Number(start) + i);

/** The block of a byte, by its bytes. */
const blockOf = (at: number, { minimum, size }: Blocks): number[] => {
  const start = at - (at % minimum);
  return bytesOf({ start: BigInt(start), end: BigInt(Math.min(start + minimum, Number(size))) });
};

describe('tail block', () => {
  it('is the rest of the size, only where the server has advertised a minimum block size', () => {
    expect(tailBlock({ size: 10_000n, blockSizes: sizes(4096) })).toBe(1808);
    expect(tailBlock({ size: 8192n, blockSizes: sizes(4096) })).toBe(0);
    expect(tailBlock({ size: 10_000n, blockSizes: undefined })).toBe(0);
    expect(blocksOf({ size: 10_000n, blockSizes: undefined })).toEqual({
      size: 10_000n,
      minimum: 512,
      tail: 0,
    });
    expect(blocksOf({ size: 2n ** 63n - 1n, blockSizes: sizes(65_536) })).toEqual({
      size: 2n ** 63n - 1n,
      minimum: 65_536,
      tail: 65_535,
    });
  });

  it('is a part of its own, and nothing else is', () => {
    fc.assert(
      fc.property(disk, ({ blocks, range }) => {
        const wide = widen(range, blocks);
        const parts = splitTail(wide, blocks);
        expect(parts.flatMap(bytesOf)).toEqual(bytesOf(wide));
        const border = blocks.size - BigInt(blocks.tail);
        const crosses = wide.start < border && wide.end > border;
        expect(parts.map(({ start }) => start)).toEqual(crosses ? [wide.start, border] : [wide.start]);
      }),
    );
  });
});

describe('unaligned ranges', () => {
  it('are read wider, by the blocks that they touch and no others', () => {
    fc.assert(
      fc.property(disk, ({ blocks, range }) => {
        fc.pre(range.start < range.end);
        const touched = new Set(bytesOf(range).flatMap((at) => blockOf(at, blocks)));
        expect(bytesOf(widen(range, blocks))).toEqual([...touched]);
      }),
    );
  });

  it('have the same width in the numbers of the worker', () => {
    fc.assert(
      fc.property(disk, ({ blocks, range }) => {
        fc.pre(range.start < range.end);
        const wide = widen(range, blocks);
        const before = Number(range.start - wide.start);
        const length = Number(range.end - range.start);
        const left = Number(blocks.size - range.start);
        expect(wideLength(before, length, left, blocks.minimum)).toBe(Number(wide.end - wide.start));
      }),
    );
    // A disk of 2^63 bytes: the distance to its end is a rounded double.
    expect(wideLength(1, 511, Number(2n ** 63n - 1n), 512)).toBe(512);
    expect(wideLength(0, 513, Number(2n ** 63n - 1n), 512)).toBe(1024);
  });

  it('are split into blocks covered in part, to read first, and blocks covered as a whole', () => {
    fc.assert(
      fc.property(disk, ({ blocks, range }) => {
        const { wide, edges, whole } = splitAtBlocks(range, blocks);
        expect(wide).toEqual(widen(range, blocks));
        const inRange = new Set(bytesOf(range));
        const isWhole = (at: number): boolean => blockOf(at, blocks).every((one) => inRange.has(one));
        const inWhole = whole === undefined ? [] : bytesOf(whole);
        expect(inWhole).toEqual([...inRange].filter(isWhole));
        const partial = [...inRange].filter((at) => !isWhole(at));
        expect(edges.flatMap(({ part }) => bytesOf(part))).toEqual(partial);
        for (const { block, part } of edges) {
          expect(part.start < part.end).toBe(true);
          expect(bytesOf(block)).toEqual(blockOf(Number(part.start), blocks));
        }
      }),
    );
  });

  it('are exact up to the largest size', () => {
    const blocks = { size: 2n ** 63n - 1n, minimum: 512, tail: 511 };
    expect(splitAtBlocks({ start: 1n, end: 2n ** 63n - 2n }, blocks)).toEqual({
      wide: { start: 0n, end: 2n ** 63n - 1n },
      edges: [
        { block: { start: 0n, end: 512n }, part: { start: 1n, end: 512n } },
        {
          block: { start: 2n ** 63n - 512n, end: 2n ** 63n - 1n },
          part: { start: 2n ** 63n - 512n, end: 2n ** 63n - 2n },
        },
      ],
      whole: { start: 512n, end: 2n ** 63n - 512n },
    });
  });
});

describe('split ranges', () => {
  it('cover the range once, in order, within the limit, and the tail block goes alone', () => {
    fc.assert(
      fc.property(disk, fc.integer({ min: 1, max: 8 }), ({ blocks, range }, times) => {
        const wide = widen(range, blocks);
        const limit = times * blocks.minimum;
        const border = blocks.size - BigInt(blocks.tail);
        let at = wide.start;
        for (const { offset, length } of splitIntoParts(wide, limit, blocks)) {
          const end = offset + BigInt(length);
          expect(offset).toBe(at);
          expect(length > 0 && length <= limit).toBe(true);
          expect(offset < border && end > border).toBe(false);
          expect(length % blocks.minimum === 0 || end === blocks.size).toBe(true);
          at = end;
        }
        expect(at).toBe(wide.end);
      }),
    );
  });

  it('are as few as they can be', () => {
    const blocks = { size: 10n ** 12n, minimum: 1, tail: 0 };
    fc.assert(
      fc.property(
        fc.bigInt(0n, 10n ** 11n),
        fc.nat(10_000),
        fc.integer({ min: 100, max: 5000 }),
        (start, length, limit) => {
          const range = { start, end: start + BigInt(length) };
          expect([...splitIntoParts(range, limit, blocks)]).toHaveLength(Math.ceil(length / limit));
        },
      ),
    );
  });

  it('are exact at the end of the largest disk', () => {
    const size = 2n ** 63n - 1n;
    const blocks = { size, minimum: 512, tail: 511 };
    const start = size - 511n - 1024n;
    expect([...splitIntoParts({ start, end: size }, 1024, blocks)]).toEqual([
      { offset: start, length: 1024 },
      { offset: size - 511n, length: 511 },
    ]);
    expect([
      ...splitIntoParts({ start: 0n, end: 2n ** 51n + 1n }, 2 ** 50, { ...blocks, minimum: 1, tail: 0 }),
    ]).toEqual([
      { offset: 0n, length: 2 ** 50 },
      { offset: 2n ** 50n, length: 2 ** 50 },
      { offset: 2n ** 51n, length: 1 },
    ]);
  });

  it('leave the tail block to the next request, in the numbers of the worker', () => {
    expect(payloadPart(1000, 1000, 4096, 488)).toBe(512);
    expect(payloadPart(488, 488, 4096, 488)).toBe(488);
    expect(payloadPart(1000, 2000, 4096, 488)).toBe(1000);
    expect(payloadPart(8192, 8192, 4096, 488)).toBe(4096);
    expect(payloadPart(1000, 1000, 4096, 0)).toBe(1000);
  });
});
