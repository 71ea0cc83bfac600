// struct iovec, one or several in a row, for the system calls that take addresses from memory.

/** Bytes of one. */
export const VECTOR_SIZE = 16;

/** Lays `length` bytes (below 2^32) at `address` down in byte `at` of `view`, of which nothing else was ever written. */
export function setVector(view: DataView, at: number, address: number, length: number): void {
  const high = Math.floor(address / 2 ** 32);
  view.setUint32(at, address - high * 2 ** 32, true);
  view.setUint32(at + 4, high, true);
  view.setUint32(at + 8, length, true);
}
