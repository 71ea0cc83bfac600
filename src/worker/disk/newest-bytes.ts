// The newest bytes of ranges that were written one after the other. Pure; for a replay, not for the hot path.

import type { ByteRange } from '../../nbd/byte-range.js';

/** A part of range number `index`. */
export interface RangePart extends ByteRange {
  readonly index: number;
}

/**
 * The bytes of each range that no later range covers: parts that do not overlap, in the order of the ranges. Takes
 * n log n steps.
 */
export function newestBytes(ranges: readonly ByteRange[]): RangePart[] {
  const cuts = [...new Set(ranges.flatMap(({ start, end }) => [start, end]))].sort((a, b) =>
    a < b ? -1 : 1,
  );
  const cellAt = new Map(cuts.map((cut, cell) => [cut, cell]));
  const owners = new Int32Array(cuts.length).fill(-1);
  // From each cell the way to the first one without an owner, shortened as it is used.
  const next = Int32Array.from(cuts.keys());
  const free = (from: number): number => {
    let cell = from;
    while (next[cell] !== cell) {
      next[cell] = next[next[cell]];
      cell = next[cell];
    }
    return cell;
  };
  for (let index = ranges.length - 1; index >= 0; index--) {
    const { start, end } = ranges[index];
    const last = cellAt.get(end) ?? 0;
    for (let cell = free(cellAt.get(start) ?? 0); cell < last; cell = free(cell)) {
      owners[cell] = index;
      next[cell] = cell + 1;
    }
  }
  return joined(cuts, owners).sort((a, b) => a.index - b.index);
}

/** Joins neighbouring cells of one owner. */
function joined(cuts: readonly bigint[], owners: Int32Array): RangePart[] {
  const parts: RangePart[] = [];
  for (let cell = 0; cell + 1 < cuts.length; cell++) {
    const index = owners[cell];
    const last = parts.at(-1);
    if (index < 0) continue;
    if (last?.index === index && last.end === cuts[cell])
      parts[parts.length - 1] = { ...last, end: cuts[cell + 1] };
    else parts.push({ index, start: cuts[cell], end: cuts[cell + 1] });
  }
  return parts;
}
