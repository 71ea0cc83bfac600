import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NbdProtocolError } from '../../../src/nbd/errors.js';
import {
  decodeExtents,
  negotiatedContext,
  placeExtents,
  readsAsZeros,
  statusRequest,
} from '../../../src/nbd/extents.js';

describe('BLOCK_STATUS request', () => {
  it('begins at the block of the byte, and is no longer than compact headers allow', () => {
    const blocks = { size: 2n ** 62n, minimum: 4096, tail: 0 };
    expect(statusRequest({ start: 5000n, end: 2n ** 62n }, blocks, false)).toEqual({
      offset: 4096n,
      length: 0xffff_0000,
    });
    expect(statusRequest({ start: 5000n, end: 2n ** 62n }, blocks, true)).toEqual({
      offset: 4096n,
      length: 2 ** 50,
    });
    const bytes = { size: 2n ** 40n, minimum: 1, tail: 0 };
    expect(statusRequest({ start: 0n, end: 2n ** 40n }, bytes, true)).toEqual({
      offset: 0n,
      length: 2 ** 40,
    });
  });

  it('ends at the block of the last byte', () => {
    const blocks = { size: 20_000n, minimum: 4096, tail: 3616 };
    expect(statusRequest({ start: 5000n, end: 5001n }, blocks, false)).toEqual({
      offset: 4096n,
      length: 4096,
    });
    expect(statusRequest({ start: 5000n, end: 9000n }, blocks, false)).toEqual({
      offset: 4096n,
      length: 8192,
    });
  });

  it('covers the tail block alone', () => {
    const blocks = { size: 6000n, minimum: 4096, tail: 1904 };
    expect(statusRequest({ start: 0n, end: 6000n }, blocks, false)).toEqual({ offset: 0n, length: 4096 });
    expect(statusRequest({ start: 5000n, end: 6000n }, blocks, false)).toEqual({
      offset: 4096n,
      length: 1904,
    });
  });

  it('covers the whole disk if the server advertises no minimum block size', () => {
    const blocks = { size: 6000n, minimum: 512, tail: 0 };
    expect(statusRequest({ start: 0n, end: 6000n }, blocks, false)).toEqual({ offset: 0n, length: 6000 });
  });
});

describe('BLOCK_STATUS reply', () => {
  it('has pairs of length and flags, of 32 or of 64 bits', () => {
    const narrow = new DataView(new ArrayBuffer(20));
    for (const [i, value] of [7, 0xffff_ffff, 3, 512, 0x8000_0000].entries()) narrow.setUint32(i * 4, value);
    expect([...decodeExtents(narrow, 4, false)]).toEqual([
      { length: 0xffff_ffffn, flags: 3 },
      { length: 512n, flags: 0x8000_0000 },
    ]);
    const wide = new DataView(new ArrayBuffer(40));
    for (const [i, value] of [0n, 2n ** 63n, 2n, 1n, 2n ** 63n + 2n ** 52n].entries())
      wide.setBigUint64(i * 8, value);
    expect([...decodeExtents(wide, 8, true)]).toEqual([
      { length: 2n ** 63n, flags: 2 },
      { length: 1n, flags: 2 ** 52 },
    ]);
  });

  it('belongs to a context of its connection, or breaks the protocol', () => {
    const info = { metaContexts: [{ id: 3, name: 'base:allocation' }] };
    expect(negotiatedContext(info, 3).name).toBe('base:allocation');
    expect(() => negotiatedContext(info, 4)).toThrow(NbdProtocolError);
  });

  it('places the extents one after the other, exact at every offset', () => {
    const length = fc.oneof(fc.bigInt(1n, 2n ** 62n), fc.integer({ min: 1, max: 2 ** 50 }));
    const lengths = fc.array(length, { maxLength: 20 });
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 63n), lengths, (offset, pairs) => {
        let [at, next] = [offset, 0];
        const lengthOf = (index: number) => pairs[index];
        placeExtents(offset, pairs.length, lengthOf, (index, start, stop) => {
          expect(index).toBe(next++);
          expect(start).toBe(at);
          expect(stop - start).toBe(BigInt(pairs[index]));
          at = stop;
        });
        expect(next).toBe(pairs.length);
      }),
    );
  });

  it('skips an extent of no bytes', () => {
    const placed: [number, bigint, bigint][] = [];
    placeExtents(
      512n,
      2,
      (index) => [0, 512][index],
      (...one) => placed.push(one),
    );
    expect(placed).toEqual([[1, 512n, 1024n]]);
  });

  it('zeros are where NBD_STATE_ZERO is, whatever the other bits ("base:allocation metadata context")', () => {
    expect([0, 1, 2, 3, 0xffff_fffc, 0xffff_fffe].map(readsAsZeros)).toEqual([
      false,
      false,
      true,
      true,
      false,
      true,
    ]);
  });
});
