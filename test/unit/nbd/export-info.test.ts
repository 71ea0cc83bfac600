// The block sizes of requests, and the check that a reconnected export is still the same.
import { describe, expect, it } from 'vitest';
import { type ExportInfo, effectiveBlockSizes, hasFlag, sameExport } from '../../../src/nbd/export-info.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';

const INFO: ExportInfo = {
  ...PLAIN_EXPORT,
  name: 'disk',
  flags: 0x0105,
  blockSizes: { minimum: 512, preferred: 4096, maximum: 65536 },
  metaContexts: [{ id: 1, name: 'base:allocation' }],
};

describe('block sizes', () => {
  it('are 512, 4096 and 32 MiB where the server advertises none ("Size constraints")', () => {
    expect(effectiveBlockSizes({ blockSizes: undefined })).toEqual({
      minimum: 512,
      preferred: 4096,
      maximum: 33554432,
    });
  });

  it('are the advertised ones, with the maximum rounded down to the minimum', () => {
    const effective = (minimum: number, maximum: number) =>
      effectiveBlockSizes({ blockSizes: { minimum, preferred: 4096, maximum } });
    expect(effective(1, 5000)).toEqual({ minimum: 1, preferred: 4096, maximum: 5000 });
    expect(effective(4096, 10000)).toEqual({ minimum: 4096, preferred: 4096, maximum: 8192 });
    expect(effective(512, 0xffffffff).maximum).toBe(0xfffffe00);
  });
});

describe('transmission flags', () => {
  it('are there if all their bits are', () => {
    expect([hasFlag(INFO, 4), hasFlag(INFO, 6)]).toEqual([true, false]);
  });
});

describe('another connection to the export', () => {
  it('fits when all relevant properties match', () => {
    const other = {
      ...INFO,
      metaContexts: [
        { id: 9, name: 'base:allocation' },
        { id: 1, name: 'x:y' },
      ],
    };
    expect(sameExport(INFO, other)).toBeUndefined();
  });

  it.each<[string, Partial<ExportInfo>, string]>([
    ['another size', { size: 1n }, 'the size is 1 bytes, not 1048576'],
    ['other flags', { flags: 0x0107 }, 'transmission flags are 0x107, not 0x105'],
    [
      'other block sizes',
      { blockSizes: { minimum: 1, preferred: 4096, maximum: 65536 } },
      'block sizes are 1/4096/65536, not 512',
    ],
    ['no block sizes', { blockSizes: undefined }, 'block sizes are none, not 512/4096/65536'],
    ['other headers', { extendedHeaders: true }, 'negotiated reply headers are different'],
    ['simple replies', { structuredReplies: false }, 'negotiated reply headers are different'],
    ['no contexts', { metaContexts: [] }, 'metadata context "base:allocation" is missing'],
  ])('does not fit with %s', (_, change, why) => {
    expect(sameExport(INFO, { ...INFO, ...change })).toContain(why);
  });

  it('passes to a worker thread unchanged', () => {
    expect(structuredClone(INFO)).toEqual(INFO);
  });
});
