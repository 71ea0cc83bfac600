// What is known of holes, against a model that keeps every byte.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Command } from '../../src/bridge/command.js';
import { ExtentMap } from '../../src/bridge/extent-map.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../src/nbd/constants.js';

function command(type: number, offset: bigint, length: number, extents?: number[]): Command {
  const made = new Command(0);
  made.type = type;
  made.offsetHi = Number(offset >> 32n);
  made.offsetLo = Number(offset & 0xffffffffn);
  made.length = length;
  made.extents = extents;
  return made;
}

const tell = (map: ExtentMap, offset: bigint, extents: number[]): void => {
  map.asked();
  map.answered(command(NBD_CMD_BLOCK_STATUS, offset, 0, extents));
};

describe('the extent map', () => {
  test('joins what belongs together, and knows nothing beyond', () => {
    const map = new ExtentMap(512, false, true);
    tell(map, 0n, [512, 3, 512, 3, 1024, 0]);
    expect(map.at(700n)).toEqual({ start: 0n, end: 1024n, hole: true });
    expect(map.at(1024n)).toEqual({ start: 1024n, end: 2048n, hole: false });
    expect(map.at(2048n)).toBeUndefined();
    expect(map.summary(4096n)).toEqual({ holes: 1024n, known: 2048n });
  });

  test('asks from the block that the byte is in, no further than compact headers reach', () => {
    const map = new ExtentMap(4096, false, true);
    expect(map.ask(5000n, 2n ** 62n)).toEqual({ start: 4096n, length: 0xffff0000 });
    expect(map.ask(5000n, 6000n)).toEqual({ start: 4096n, length: 1904 });
    expect(new ExtentMap(1, true, true).ask(0n, 2n ** 40n)).toEqual({ start: 0n, length: 2 ** 40 });
  });

  test('a write while the question is under way is data, whatever the answer says', () => {
    const map = new ExtentMap(512, false, true);
    map.asked();
    map.wrote(command(NBD_CMD_WRITE, 512n, 512));
    map.answered(command(NBD_CMD_BLOCK_STATUS, 0n, 4096, [4096, 3]));
    expect(map.at(0n)).toEqual({ start: 0n, end: 512n, hole: true });
    expect(map.at(600n)?.hole).toBe(false);
    expect(map.at(1024n)).toEqual({ start: 1024n, end: 4096n, hole: true });
  });

  test('zeroing makes all unknown', () => {
    const map = new ExtentMap(512, false, true);
    tell(map, 0n, [4096, 0]);
    map.wrote(command(NBD_CMD_WRITE_ZEROES, 0n, 512));
    expect(map.at(0n)).toBeUndefined();
  });

  test('more writes than can be noted make all unknown, never wrong', () => {
    const map = new ExtentMap(1, false, true);
    tell(map, 0n, [1_000_000, 3]);
    for (let i = 0; i < 5000; i++) map.wrote(command(NBD_CMD_WRITE, BigInt(i * 100), 50));
    expect(map.at(0n)).toBeUndefined();
    tell(map, 0n, [100, 3]);
    expect(map.at(0n)?.hole).toBe(true);
  });

  test('without keeping, a new question begins with nothing known', () => {
    const map = new ExtentMap(512, false, false);
    tell(map, 0n, [4096, 3]);
    map.ask(8192n, 2n ** 20n);
    expect(map.at(0n)).toBeUndefined();
  });

  test('agrees with a model that keeps every byte, for any statuses and writes', () => {
    const size = 64;
    const step = fc.record({
      write: fc.boolean(),
      at: fc.integer({ min: 0, max: size - 1 }),
      lengths: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 4 }),
      holes: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const map = new ExtentMap(1, false, true);
        const model: (boolean | undefined)[] = new Array(size * 2).fill(undefined);
        let anything = false;
        for (const { write, at, lengths, holes } of steps) {
          if (write) {
            map.wrote(command(NBD_CMD_WRITE, BigInt(at), lengths[0]));
            if (anything) model.fill(false, at, at + lengths[0]);
          } else {
            anything = true;
            tell(
              map,
              BigInt(at),
              lengths.flatMap((length, i) => [length, holes[i] ? 3 : 0]),
            );
            let from = at;
            lengths.forEach((length, i) => {
              model.fill(holes[i], from, from + length);
              from += length;
            });
          }
          for (let i = 0; i < size; i++) expect(map.at(BigInt(i))?.hole).toBe(model[i]);
        }
      }),
      { numRuns: 200 },
    );
  });
});
