// The chunks between restart points.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { PointMap, plainMap } from '../../../../src/chunks/schedule/chunk-map.js';

const gaps = fc.array(fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 5 * UNIT })), {
  minLength: 1,
  maxLength: 40,
});

describe('chunks of a compressed file', () => {
  it('cover each unit once, and begin at or behind their restart point', () => {
    fc.assert(
      fc.property(gaps, (lengths) => {
        const outs = [0];
        for (const length of lengths) outs.push((outs.at(-1) ?? 0) + length);
        const size = outs.at(-1) ?? 0;
        const points = outs.slice(0, -1).map((out, i) => ({ in: i * 10, out }));
        const map = new PointMap(size, points);
        for (let unit = 0; unit < map.units; ) {
          const chunk = map.chunkOf(unit);
          expect(chunk.first).toBe(unit);
          expect(chunk.end).toBeGreaterThan(unit);
          expect(chunk.from.out).toBeLessThanOrEqual(unit * UNIT);
          // No later point would do.
          expect(points.filter(({ out }) => out <= unit * UNIT).at(-1)).toEqual(chunk.from);
          expect(map.chunkOf(chunk.end - 1)).toEqual(chunk);
          unit = chunk.end;
        }
      }),
    );
  });

  it('become smaller when a pass finds points', () => {
    const map = new PointMap(10 * UNIT, [{ in: 0, out: 0 }]);
    expect(map.chunkOf(3)).toMatchObject({ first: 0, end: 10, inEnd: undefined });
    map.add({ in: 5, out: 2 * UNIT + 1 });
    map.add({ in: 5, out: 2 * UNIT });
    expect(map.chunkOf(2)).toMatchObject({ first: 0, end: 3, inEnd: 5 });
    expect(map.chunkOf(3)).toMatchObject({ first: 3, end: 10, from: { in: 5 } });
  });

  it('must begin with the beginning of the image', () => {
    expect(() => new PointMap(1, [{ in: 0, out: 1 }])).toThrow('not the beginning');
  });
});

describe('chunks of a plain file', () => {
  it('are its units; the last ends with the file', () => {
    const map = plainMap(2 * UNIT + 5);
    expect(map.units).toBe(3);
    expect(map.chunkOf(2)).toEqual({
      first: 2,
      end: 3,
      from: { in: 2 * UNIT, out: 2 * UNIT },
      inEnd: 2 * UNIT + 5,
    });
  });
});
