// struct iovec, one or several in a row, for system calls with vectors.

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const [LOW, HIGH] = LITTLE ? [0, 4] : [4, 0];

/** Size of a struct iovec in bytes. */
export const VECTOR_SIZE = 16;

/** Writes an iovec of `length` bytes (below 2^32) at `address` to byte `at` of `view`, which has no other content. */
export function setVector(view: DataView, at: number, address: number, length: number): void {
  const high = Math.floor(address / 2 ** 32);
  view.setUint32(at + LOW, address - high * 2 ** 32, LITTLE);
  view.setUint32(at + HIGH, high, LITTLE);
  view.setUint32(at + 8 + LOW, length, LITTLE);
}
