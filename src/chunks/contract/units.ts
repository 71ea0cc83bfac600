// The unit of all that is kept of an image: 256 KiB of decoded bytes. Pure.

/** Bytes of a unit. The last unit of an image may be shorter. */
export const UNIT = 256 * 1024;

/** Maximum bytes of an image with a cache file: its unit numbers fit 32 bits. */
export const MAX_IMAGE = 2 ** 50;

/** The number of units of an image of `size` bytes. */
export const unitsOf = (size: number): number => Math.ceil(size / UNIT);

/** The bytes of a unit of an image of `size` bytes. */
export const lengthOfUnit = (unit: number, size: number): number => Math.min(UNIT, size - unit * UNIT);

/** All units of zeros share these bytes: disks have many, which then need no memory. */
const ZEROS = Buffer.alloc(UNIT);

/** A unit of zeros of at most UNIT bytes. Nobody may write to it. */
export const zeroUnit = (length: number): Uint8Array => (length === UNIT ? ZEROS : ZEROS.subarray(0, length));

/** Whether a unit has only zeros. */
export const isZero = (bytes: Uint8Array): boolean =>
  bytes.length <= UNIT && Buffer.compare(bytes, zeroUnit(bytes.length)) === 0;

/** The unit, or the shared one in its place if it has only zeros. */
export const compact = (bytes: Uint8Array): Uint8Array => (isZero(bytes) ? zeroUnit(bytes.length) : bytes);

/** Whether a unit is a shared one. */
export const isShared = (bytes: Uint8Array): boolean => bytes.buffer === ZEROS.buffer;
