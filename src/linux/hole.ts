// Frees blocks of a file, which then read as zeros: fallocate(2) with FALLOC_FL_PUNCH_HOLE.

import { errno, libc } from './libc.js';

/** FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE. */
const PUNCH_HOLE = 3;

/** Punches a hole, in another thread. @returns 0, or the error number */
export function punchHole(fd: number, offset: number, length: number): Promise<number> {
  return new Promise((resolve, reject) => {
    libc.fallocate.async(fd, PUNCH_HOLE, offset, length, (error: unknown, result: unknown) => {
      if (error !== null) reject(error);
      // koffi hands the error number of the thread over to this one.
      else resolve(result === 0 ? 0 : errno());
    });
  });
}
