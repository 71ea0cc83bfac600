// 64-bit offsets as two unsigned 32-bit halves: exact up to 2^63-1, without a BigInt on the hot path.

/** Offset a minus offset b in bytes, as a double: exact below 2^53. */
export function distance(aHi: number, aLo: number, bHi: number, bLo: number): number {
  return (aHi - bHi) * 2 ** 32 + (aLo - bLo);
}

/** The value of two halves as a double: exact below 2^53. */
export function toDouble(hi: number, lo: number): number {
  return hi * 2 ** 32 + lo;
}

/** A range of bytes: both halves of its offset, and its length in bytes. */
export interface Place {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
}

/** Whether two ranges share a byte. */
export function placesOverlap(a: Place, b: Place): boolean {
  const apart = distance(a.offsetHi, a.offsetLo, b.offsetHi, b.offsetLo);
  return apart < b.length && -apart < a.length;
}

/** The upper half of offset + count, for counts below 2^32. */
export function addHi(hi: number, lo: number, count: number): number {
  return lo + count >= 2 ** 32 ? hi + 1 : hi;
}

/** The lower half of offset + count, for counts below 2^32. */
export function addLo(lo: number, count: number): number {
  return (lo + count) >>> 0;
}

/** The upper half of a bigint of 0 to 2^64-1. */
export function highHalf(value: bigint): number {
  return Number(value >> 32n);
}

/** The lower half of a bigint of 0 to 2^64-1. */
export function lowHalf(value: bigint): number {
  return Number(value & 0xffffffffn);
}

/** The value of two halves as a bigint. */
export function toBigInt(hi: number, lo: number): bigint {
  return (BigInt(hi) << 32n) | BigInt(lo);
}
