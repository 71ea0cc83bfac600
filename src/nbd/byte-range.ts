// Ranges of an export's bytes, exact for every offset. Pure. BigInt: not for the worker's plain READ and WRITE.

/** Half-open range of bytes of the export. */
export interface ByteRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** The bytes that two ranges share. Its end is not after its start if they share none. */
export function intersection(a: ByteRange, b: ByteRange): ByteRange {
  let { start, end } = a;
  if (start < b.start) start = b.start;
  if (end > b.end) end = b.end;
  return { start, end };
}

/** Whether [aStart, aEnd) and [bStart, bEnd), both not empty, share a byte. */
export function overlaps<T extends bigint | number>(aStart: T, aEnd: T, bStart: T, bEnd: T): boolean {
  return aStart < bEnd && bStart < aEnd;
}

/** The last multiple of `block` that is not after `value`. */
export function alignDown(value: bigint, block: number): bigint {
  return value - (value % BigInt(block));
}

/** The first multiple of `block` that is not before `value`, but at most `end`. */
export function alignUp(value: bigint, block: number, end: bigint): bigint {
  const up = alignDown(value + BigInt(block) - 1n, block);
  return up < end ? up : end;
}
