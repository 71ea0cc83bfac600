// Compares the results of an operation on two files, and checks that holes read as zeros.

import { ENXIO } from '../../src/constants/errno.js';
import { errnoName } from '../../src/constants/errno-names.js';
import type { Operation, Range } from './operations.js';
import type { PlayedFile } from './played-file.js';
import { SEEK_DATA, SEEK_HOLE } from './system.js';

/** The result of an operation, and the bytes that it has read. */
export type Ending = readonly [result: number, bytes: Buffer];

/** Bytes that are shown of each side. */
const SHOWN = 24;

/** Number of transitions from data to hole that are checked. */
const STEPS = 64;

const shown = (result: number): string => (result < 0 ? errnoName(-result) : String(result));

/** The difference in words; undefined if there is none. */
export function differenceOf(operation: Operation, ours: Ending, theirs: Ending): string | undefined {
  if (ours[0] !== theirs[0]) return `ended with ${shown(ours[0])} instead of ${shown(theirs[0])}`;
  if (operation.kind !== 'read' && operation.kind !== 'load') return undefined;
  return unequal(ours[1].subarray(0, ours[0]), theirs[1].subarray(0, ours[0]), operation.at);
}

/** Where two runs of bytes that begin at an offset differ. */
export function unequal(ours: Buffer, theirs: Buffer, at: number): string | undefined {
  if (ours.equals(theirs)) return undefined;
  let first = 0;
  while (ours[first] === theirs[first]) first++;
  let last = ours.length - 1;
  while (last > first && ours[last] === theirs[last]) last--;
  const some = (bytes: Buffer): string => bytes.toString('hex', first, Math.min(first + SHOWN, last + 1));
  return `bytes from ${at + first} to ${at + last} differ: ${some(ours)} instead of ${some(theirs)}`;
}

/**
 * Walks over the data and the holes of a range. @throws Error when a hole has data, or the offsets contradict
 * each other
 */
export function checkHoles(
  { at, length, descriptor }: Range & { readonly descriptor: number },
  size: number,
  subject: PlayedFile,
  reference: PlayedFile,
): void {
  const end = Math.min(at + length, size);
  let position = at;
  for (let step = 0; step < STEPS && position < end; step++) {
    const data = subject.seek(descriptor, position, SEEK_DATA);
    if (data < position && data !== -ENXIO) throw new Error(`SEEK_DATA from ${position}: ${shown(data)}`);
    const hole: Range = { at: position, length: (data < 0 ? end : Math.min(data, end)) - position };
    checkZeros(hole, descriptor, reference);
    if (data < 0 || data >= end) return;
    position = subject.seek(descriptor, data, SEEK_HOLE);
    // Bytes of which nobody knows count as data; by now the server may have said that they are a hole.
    if (position < data || position > size)
      throw new Error(`SEEK_HOLE from ${data}: ${shown(position)}, of ${size}`);
  }
}

function checkZeros({ at, length }: Range, descriptor: number, reference: PlayedFile): void {
  if (length === 0) return;
  const bytes = Buffer.alloc(length);
  reference.play({ kind: 'read', descriptor, at, length }, bytes);
  const why = unequal(Buffer.alloc(length), bytes, at);
  if (why !== undefined) throw new Error(`BLOCK_STATUS reports a hole:  ${why}`);
}
