// The unit of all that is kept of an image: 256 KiB of decoded bytes. Pure.

/** Bytes of a unit. The last unit of an image may be shorter. */
export const UNIT = 256 * 1024;

/** The number of units of an image of `size` bytes. */
export const unitsOf = (size: number): number => Math.ceil(size / UNIT);

/** The bytes of a unit of an image of `size` bytes. */
export const lengthOfUnit = (unit: number, size: number): number => Math.min(UNIT, size - unit * UNIT);
