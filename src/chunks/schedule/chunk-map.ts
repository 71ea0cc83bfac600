// The chunks of an image: the units between two restart points. Pure.

import type { RestartPoint } from '../contract/coding.js';
import { UNIT, unitsOf } from '../contract/units.js';

/** Units that one decoder makes in order. */
export interface Chunk {
  /** The first unit. */
  readonly first: number;
  /** The unit behind the last one. */
  readonly end: number;
  /** Where decoding begins: at or before the first byte of the first unit. */
  readonly from: RestartPoint;
  /** The offset in the file behind which no data of the chunk are, as far as known; undefined: not known. */
  readonly inEnd: number | undefined;
}

/** The first unit that begins at or behind a point. */
const unitAt = ({ out }: RestartPoint): number => Math.ceil(out / UNIT);

/** Finds the chunk of a unit. Points may be added while a pass over the file finds them. */
export interface ChunkMap {
  /** Bytes of the image. */
  readonly size: number;
  readonly units: number;
  chunkOf(unit: number): Chunk;
}

/** The chunks of a file that is not compressed: each unit is one. */
export function plainMap(size: number): ChunkMap {
  const chunkOf = (unit: number): Chunk => {
    const at = unit * UNIT;
    return { first: unit, end: unit + 1, from: { in: at, out: at }, inEnd: Math.min(at + UNIT, size) };
  };
  return { size, units: unitsOf(size), chunkOf };
}

/** The chunks between restart points. */
export class PointMap implements ChunkMap {
  readonly size: number;
  readonly units: number;
  readonly #points: RestartPoint[];

  /** @param points in rising order; the first is the beginning of the image */
  constructor(size: number, points: readonly RestartPoint[]) {
    if (points[0]?.out !== 0) throw new Error('the first restart point is not the beginning of the image');
    this.size = size;
    this.units = unitsOf(size);
    this.#points = [...points];
  }

  get points(): readonly RestartPoint[] {
    return this.#points;
  }

  /** Adds a point that a pass has found; one that is not behind the last is known already. */
  add(point: RestartPoint): void {
    const last = this.#points.at(-1);
    if (last === undefined || point.out > last.out) this.#points.push(point);
  }

  chunkOf(unit: number): Chunk {
    const at = this.#lastBefore(unit * UNIT);
    const from = this.#points[at];
    const next = this.#points[at + 1];
    const end = next === undefined ? this.units : Math.min(unitAt(next), this.units);
    return { first: unitAt(from), end, from, inEnd: next?.in };
  }

  /** The index of the last point whose `out` is at most `offset`. */
  #lastBefore(offset: number): number {
    let low = 0;
    let high = this.#points.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#points[middle].out <= offset) low = middle;
      else high = middle;
    }
    return low;
  }
}
