// Block sizes and flags that break the protocol: the handshake uses what it can of them.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockSizes } from '../../../src/nbd/export-info.js';
import { describeBlockSizeChange, usableBlockSizes } from '../../../src/nbd/handshake/block-sizes.js';
import { ExportDetails } from '../../../src/nbd/handshake/export-details.js';

const TERMS = {
  structuredReplies: false,
  extendedHeaders: false,
  metaContexts: [],
  handshake: 'fixed-newstyle',
} as const;

const KIB = 1024;
const MIB = 1024 * KIB;
const NO_LIMIT = 0xffffffff;

const sizes = ([minimum, preferred, maximum]: readonly number[]): BlockSizes => ({
  minimum,
  preferred,
  maximum,
});

const power = fc.integer({ min: 0, max: 31 }).map((exponent) => 2 ** exponent);
const u32 = fc.oneof(fc.constantFrom(0, 1, 511, 513, NO_LIMIT), power, fc.integer({ min: 0, max: NO_LIMIT }));

const CORRECTIONS: [string, number[], number[]][] = [
  ['preferred size 1', [1, 1, NO_LIMIT], [1, 4 * KIB, NO_LIMIT]],
  ['preferred size below the minimum', [4 * KIB, 512, MIB], [4 * KIB, 4 * KIB, MIB]],
  ['preferred size that is no power of two', [1, 4097, MIB], [1, 4 * KIB, MIB]],
  ['preferred size above the maximum', [512, MIB, 100_000], [512, 64 * KIB, 100_000]],
  ['maximum below the preferred size', [512, 4 * KIB, 512], [512, 512, 512]],
  ['maximum below the minimum', [4 * KIB, 4 * KIB, 1024], [4 * KIB, 4 * KIB, 4 * KIB]],
  ['maximum 0', [512, 4 * KIB, 0], [512, 4 * KIB, 32 * MIB]],
  ['maximum 1', [1, 4 * KIB, 1], [1, 4 * KIB, 32 * MIB]],
  ['minimum of 1 MiB', [MIB, MIB, 32 * MIB], [64 * KIB, MIB, 32 * MIB]],
  ['minimum 0', [0, 4 * KIB, MIB], [512, 4 * KIB, MIB]],
  ['minimum that is no power of two', [3000, 4 * KIB, MIB], [512, 4 * KIB, MIB]],
  ['everything 0', [0, 0, 0], [512, 4 * KIB, 32 * MIB]],
];

describe('block sizes', () => {
  it.each(CORRECTIONS)('that break the protocol are corrected: %s', (_, advertised, used) => {
    expect(usableBlockSizes(sizes(advertised))).toEqual(sizes(used));
    expect(describeBlockSizeChange(sizes(advertised), sizes(used))).toBe(
      `the server's block sizes ${advertised.join('/')} (minimum/preferred/maximum) break the NBD protocol; ` +
        `using ${used.join('/')}`,
    );
  });

  it('that keep to the protocol stay as they are', () => {
    for (const valid of [
      [1, 512, 512],
      [512, 4 * KIB, NO_LIMIT],
      [64 * KIB, 64 * KIB, 64 * KIB],
      [1, 2 ** 31, NO_LIMIT],
      [4 * KIB, 4 * KIB, 10_000],
    ]) {
      expect(usableBlockSizes(sizes(valid))).toEqual(sizes(valid));
      expect(describeBlockSizeChange(sizes(valid), sizes(valid))).toBeUndefined();
    }
  });

  it('are usable after the correction, and do not change in another one', () => {
    fc.assert(
      fc.property(u32, u32, u32, (minimum, preferred, maximum) => {
        const used = usableBlockSizes({ minimum, preferred, maximum });
        expect(Number.isInteger(Math.log2(used.minimum)) && used.minimum <= 64 * KIB).toBe(true);
        expect(Number.isInteger(Math.log2(used.preferred))).toBe(true);
        expect(used.preferred).toBeGreaterThanOrEqual(Math.max(used.minimum, 512));
        expect(used.maximum).toBeGreaterThanOrEqual(used.preferred);
        expect(usableBlockSizes(used)).toEqual(used);
      }),
    );
  });
});

describe('transmission flags', () => {
  it('without NBD_FLAG_HAS_FLAGS count nevertheless', () => {
    const details = new ExportDetails();
    details.takeExport(512n, 0x06);
    expect(details.finish('', TERMS)).toMatchObject({
      flags: 0x06,
      corrections: ["the server's transmission flags 0x6 lack NBD_FLAG_HAS_FLAGS; using them nevertheless"],
    });
  });

  it.each([0, 1, 0x03])('need no correction if they are 0x%x', (flags) => {
    const details = new ExportDetails();
    details.takeExport(512n, flags);
    expect(details.finish('', TERMS)).toMatchObject({ flags, corrections: undefined });
  });
});
