// Giving memory back to the system without freeing it.
//
// Used by the worker's pool of blocks. Never blocks.

import { libc } from './libc.js';

/** MADV_DONTNEED */
const DO_NOT_NEED = 4;

/** Bytes of a page of memory where the system has its usual ones. */
export const PAGE = 4096;

/**
 * Takes the pages away that lie wholly within `length` bytes at `address`: they come back, filled with zeros,
 * when they are touched. Without effect where pages are larger than 4 KiB.
 */
export function discardPages(address: number, length: number): void {
  const first = Math.ceil(address / PAGE) * PAGE;
  const end = Math.floor((address + length) / PAGE) * PAGE;
  if (end > first) libc.madvise(first, end - first, DO_NOT_NEED);
}
