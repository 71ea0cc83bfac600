// Giving memory back to the system without freeing it, and asking it for large pages.
//
// Used by the worker's pool of blocks. Never blocks.

import { libc } from './libc.js';

/** MADV_DONTNEED */
const DO_NOT_NEED = 4;
/** MADV_HUGEPAGE */
const HUGE = 14;

/** Bytes of a large page. */
export const HUGE_PAGE = 2 * 1024 * 1024;

/** Bytes of a page of memory where pages have their usual size. */
export const PAGE = 4096;

/** Bytes of a page of memory here: 16 or 64 KiB on some machines. */
export const PAGE_SIZE = libc.getpagesize();

/** Whether they have the usual size here: madvise(2) would take more than it was told to away where they are larger. */
export const HAS_USUAL_PAGES = PAGE_SIZE === PAGE;

/** Asks for large pages behind `length` bytes at `address`, both multiples of theirs; without them all is the same. */
export function preferHugePages(address: number, length: number): void {
  libc.madvise(address, length, HUGE);
}

/**
 * Takes the pages away that lie wholly within `length` bytes at `address`: they come back, filled with zeros,
 * when they are touched. False where the system does not do that, and where pages are larger than 4 KiB.
 */
export function discardPages(address: number, length: number): boolean {
  if (!HAS_USUAL_PAGES) return false;
  const first = Math.ceil(address / PAGE) * PAGE;
  const end = Math.floor((address + length) / PAGE) * PAGE;
  return end > first && libc.madvise(first, end - first, DO_NOT_NEED) === 0;
}
