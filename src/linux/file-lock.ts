// Locks on files: open file description locks (fcntl(2)), which end with their descriptor.
//
// A writer holds nbdfuse's own lock on the bytes of the image that it serves. QEMU's programs have other ones
// (block/file-posix.c of QEMU): a shared lock on byte 100 + p says "I use permission p", one on 200 + p "nobody else may".

import { endianness } from 'node:os';
import { EACCES, EAGAIN } from '../constants/errno.js';
import { O_CLOEXEC, O_NONBLOCK, O_RDWR } from '../constants/open-flags.js';
import { addressOf, errno, libc } from './libc.js';

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** Bytes of struct flock. */
const FLOCK = 32;
const LITTLE = endianness() === 'LE';

/** Where nbdfuse's locks begin: byte n of an image is byte OWN_BASE + n for the lock. */
const OWN_BASE = 2n ** 61n;
/** The byte whose lock says who may change the bytes of a file that the kernel may read in place of a mount. */
const CONTENT = 2n ** 60n;
const QEMU_USED = 100n;
const QEMU_DENIED = 200n;
/** QEMU's numbers of its permissions. */
const CONSISTENT_READ = 0n;
const WRITE = 1n;
const RESIZE = 3n;

/** A range of bytes of a file. */
export interface LockedRange {
  readonly offset: bigint;
  /** 0: to the end. */
  readonly size: bigint;
}

function flock(type: number, offset: bigint, size: bigint): Buffer {
  const lock = Buffer.alloc(FLOCK);
  const view = new DataView(lock.buffer, lock.byteOffset, FLOCK);
  view.setInt16(0, type, LITTLE);
  view.setBigInt64(8, offset, LITTLE);
  view.setBigInt64(16, size, LITTLE);
  return lock;
}

/** Whether another process has a lock on a byte, or on one of a range. @param size 0: to the end */
function isLocked(fd: number, offset: bigint, size = 1n): boolean {
  const lock = flock(F_WRLCK, offset, size);
  const type = (): number => new DataView(lock.buffer, lock.byteOffset).getInt16(0, LITTLE);
  return libc.fcntl(fd, F_OFD_GETLK, addressOf(lock)) === 0 && type() !== F_UNLCK;
}

/**
 * Locks all of an open file against other processes, until the file is closed.
 * @returns false: another process has locked it
 */
export function lockWholeFile(fd: number): boolean {
  return take(fd, F_WRLCK, 0n, 0n);
}

/** Whether another process has locked a file by `lockWholeFile`. */
export function isWholeFileLocked(fd: number): boolean {
  return isLocked(fd, 0n);
}

/** Locks the bytes of a file, to change them. @returns false: the kernel reads them, or another process changes them */
export function lockContent(fd: number): boolean {
  return take(fd, F_WRLCK, CONTENT, 1n);
}

/** Locks the bytes of a file against changes. The lock ends when nobody has this open file any more, the kernel included. */
export function lockContentForReading(fd: number): boolean {
  return take(fd, F_RDLCK, CONTENT, 1n);
}

export function unlockContent(fd: number): void {
  take(fd, F_UNLCK, CONTENT, 1n);
}

/** Takes a lock. False: another process has one. A file system without locks refuses none. */
function take(fd: number, type: number, offset: bigint, size: bigint): boolean {
  const isTaken = libc.fcntl(fd, F_OFD_SETLK, addressOf(flock(type, offset, size))) === 0;
  return isTaken || ![EAGAIN, EACCES].includes(errno());
}

/**
 * Locks a file as a program of QEMU does that writes to it: it takes its locks and then looks at those of others, so that
 * of two that begin at the same time at least one sees the other.
 * @returns false: another one denies that, or writes to it
 */
function takeFromQemu(fd: number): boolean {
  const own = [QEMU_USED + CONSISTENT_READ, QEMU_USED + WRITE, QEMU_DENIED + WRITE, QEMU_DENIED + RESIZE];
  if (!own.every((offset) => take(fd, F_RDLCK, offset, 1n))) return false;
  const refused = [QEMU_DENIED + CONSISTENT_READ, QEMU_DENIED + WRITE, QEMU_USED + WRITE, QEMU_USED + RESIZE];
  return !refused.some((offset) => isLocked(fd, offset));
}

/** Locks on files, which end with this process at the latest. */
export class FileLocks {
  readonly #descriptors: number[] = [];

  /**
   * Locks a file against other writers.
   * @param asQemu whether to take QEMU's locks too, since the program that opens the file does not
   * @returns who writes to it: another nbdfuse, or a program of QEMU; undefined: nobody, or the file cannot be opened
   */
  lockForWriting(
    path: string,
    { offset, size }: LockedRange,
    asQemu: boolean,
  ): 'nbdfuse' | 'QEMU' | undefined {
    const fd = libc.open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0) return undefined;
    this.#descriptors.push(fd);
    if (!take(fd, F_WRLCK, OWN_BASE + offset, size)) return 'nbdfuse';
    // Another nbdfuse that writes to other bytes has QEMU's locks for both.
    const isShared = size > 0n && isLocked(fd, OWN_BASE, 0n);
    return asQemu && !takeFromQemu(fd) && !isShared ? 'QEMU' : undefined;
  }

  /**
   * Keeps other nbdfuse processes from writing to a file. QEMU's programs look at their own locks, which those that open
   * the file take.
   * @returns whether nobody writes to it, or the file cannot be opened
   */
  lockForReading(path: string): boolean {
    const fd = libc.open(path, O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0) return true;
    this.#descriptors.push(fd);
    return take(fd, F_RDLCK, OWN_BASE, 0n);
  }

  /** Ends the locks. */
  release(): void {
    for (const fd of this.#descriptors.splice(0)) libc.close(fd);
  }
}
