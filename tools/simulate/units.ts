// The bytes of the simulated disks: units of 512 bytes, each filled with the number of the write that wrote
// it and with its place.
//
// So a disk is one number per unit, and every payload identifies its write and its place. Zeros are 0.

/** Bytes of a unit. All requests of the simulated kernel begin and end with one. */
export const UNIT = 512;

const WORDS = UNIT / 4;

/** The initial content of disks: numbers that no write has. */
export const FIRST_CONTENT = 0xa0000000;
export const OTHER_CONTENT = 0xb0000000;

/** Result of `contentOf` for bytes that no single write wrote. */
export const TORN = -1;
/** Result of `contentOf` for bytes that belong elsewhere. */
export const MISPLACED = -2;

/** Scratch memory. */
const SCRATCH = new Uint32Array(4 * 1024 * 1024);
const SCRATCH_BYTES = new Uint8Array(SCRATCH.buffer);

/** The bytes of `count` units from `first` on, whose contents `of` tells by their places. Valid until the next call. */
export function bytesOf(first: number, count: number, of: (unit: number) => number): Uint8Array {
  for (let i = 0; i < count; i++) {
    const content = of(first + i);
    const place = content === 0 ? 0 : first + i + 1;
    const end = (i + 1) * WORDS;
    for (let at = i * WORDS; at < end; at += 2) {
      SCRATCH[at] = content;
      SCRATCH[at + 1] = place;
    }
  }
  return SCRATCH_BYTES.subarray(0, count * UNIT);
}

/**
 * Calls `see` with the content of each unit of `bytes`, which begin at unit `first`: a write's number, TORN
 * or MISPLACED.
 */
export function contentsOf(
  bytes: Uint8Array,
  first: number,
  see: (unit: number, content: number) => void,
): void {
  SCRATCH_BYTES.set(bytes);
  const count = bytes.length / UNIT;
  for (let i = 0; i < count; i++) see(first + i, contentOf(i * WORDS, first + i));
}

function contentOf(start: number, unit: number): number {
  const content = SCRATCH[start];
  const place = SCRATCH[start + 1];
  for (let at = start + 2; at < start + WORDS; at += 2)
    if (SCRATCH[at] !== content || SCRATCH[at + 1] !== place) return TORN;
  return place === (content === 0 ? 0 : unit + 1) ? content : MISPLACED;
}
