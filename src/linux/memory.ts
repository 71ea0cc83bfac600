// Page advice: returns memory to the system without freeing it, and requests huge pages.
//
// Used by the worker's buffer pool. Never blocks.

import { libc } from './libc.js';

/** MADV_DONTNEED */
const DO_NOT_NEED = 4;
/** MADV_HUGEPAGE */
const HUGE = 14;

/** Size of a huge page in bytes. */
export const HUGE_PAGE = 2 * 1024 * 1024;

/** The usual page size in bytes. */
export const PAGE = 4096;

/** Page size of this machine in bytes; some machines have 16 or 64 KiB. */
export const PAGE_SIZE = libc.getpagesize();

/** Whether the page size is the usual one. With larger pages madvise(2) would discard more than the given range. */
export const HAS_USUAL_PAGES = PAGE_SIZE === PAGE;

/** Requests huge pages for `length` bytes at `address`, both multiples of HUGE_PAGE. It works without them as well. */
export function preferHugePages(address: number, length: number): void {
  libc.madvise(address, length, HUGE);
}

/**
 * Discards the whole pages within `length` bytes at `address`; they read as zeros afterwards. False: the system does
 * not support it, or has pages larger than 4 KiB.
 */
export function discardPages(address: number, length: number): boolean {
  if (!HAS_USUAL_PAGES) return false;
  const first = Math.ceil(address / PAGE) * PAGE;
  const end = Math.floor((address + length) / PAGE) * PAGE;
  return end > first && libc.madvise(first, end - first, DO_NOT_NEED) === 0;
}
