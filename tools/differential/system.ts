// System calls that Node has no function for, with the kernel's results.
//
// A result below 0 is an errno, negated. All of them block: this is for a process that does nothing else.

import koffi from 'koffi';
import { EINTR } from '../../src/constants/errno.js';
import { addressOf, errno, libc } from '../../src/linux/libc.js';

export { O_DIRECT, O_DSYNC, O_RDWR } from '../../src/constants/open-flags.js';
export {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  SEEK_DATA,
  SEEK_HOLE,
} from '../../src/fuse/constants.js';

const library = koffi.load(null);

const raw = {
  pread: library.func('pread64', 'long', ['int', 'size_t', 'size_t', 'int64']),
  pwrite: library.func('pwrite64', 'long', ['int', 'size_t', 'size_t', 'int64']),
  mmap: library.func('mmap64', 'long', ['size_t', 'size_t', 'int', 'int', 'int', 'int64']),
  munmap: library.func('munmap', 'int', ['size_t', 'size_t']),
  msync: library.func('msync', 'int', ['size_t', 'size_t', 'int']),
  fallocate: library.func('fallocate64', 'int', ['int', 'int', 'int64', 'int64']),
  fsync: library.func('fsync', 'int', ['int']),
  fdatasync: library.func('fdatasync', 'int', ['int']),
  lseek: library.func('lseek64', 'int64', ['int', 'int64', 'int']),
  posix_fadvise: library.func('posix_fadvise64', 'int', ['int', 'int64', 'int64', 'int']),
  sync_file_range: library.func('sync_file_range', 'int', ['int', 'int64', 'int64', 'unsigned int']),
  copy_file_range: library.func('copy_file_range', 'long', [
    'int',
    'size_t',
    'int',
    'size_t',
    'size_t',
    'unsigned int',
  ]),
};

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MS_SYNC = 4;
const SYNC_FILE_RANGE_ALL = 7;

/** Repeats a call that a signal has interrupted, and throws errors with the kernel's errno. */
function result(call: () => number): number {
  for (;;) {
    const value = Number(call());
    if (value >= 0) return value;
    if (errno() !== EINTR) return -errno();
  }
}

export const openFile = (path: string, flags: number): number => result(() => libc.open(path, flags, 0));
export const closeFile = (fd: number): number => result(() => libc.close(fd));
export const fsync = (fd: number): number => result(() => raw.fsync(fd));
export const fdatasync = (fd: number): number => result(() => raw.fdatasync(fd));

/** Reads until `length` bytes or the end of the file are there. */
export function readAll(fd: number, into: Uint8Array, length: number, at: number): number {
  return moveAll(length, (done) => raw.pread(fd, addressOf(into) + done, length - done, at + done));
}

/** Writes all of the first `length` bytes. */
export function writeAll(fd: number, from: Uint8Array, length: number, at: number): number {
  return moveAll(length, (done) => raw.pwrite(fd, addressOf(from) + done, length - done, at + done));
}

function moveAll(length: number, move: (done: number) => number): number {
  let done = 0;
  while (done < length) {
    const count = result(() => move(done));
    if (count < 0) return count;
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Maps a range for reading and writing; the address, or an errno. */
export const map = (fd: number, at: number, length: number): number =>
  result(() => raw.mmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd, at));

export const unmap = (address: number, length: number): number => result(() => raw.munmap(address, length));
export const sync = (address: number, length: number): number =>
  result(() => raw.msync(address, length, MS_SYNC));

export function load(address: number, into: Uint8Array, length: number): void {
  libc.memcpy(addressOf(into), address, length);
}

export function store(address: number, from: Uint8Array, length: number): void {
  libc.memcpy(address, addressOf(from), length);
}

export const allocate = (fd: number, mode: number, at: number, length: number): number =>
  result(() => raw.fallocate(fd, mode, at, length));

export const seek = (fd: number, at: number, whence: number): number =>
  result(() => raw.lseek(fd, at, whence));

export const advise = (fd: number, at: number, length: number, advice: number): number =>
  -raw.posix_fadvise(fd, at, length, advice);

export const syncRange = (fd: number, at: number, length: number): number =>
  result(() => raw.sync_file_range(fd, at, length, SYNC_FILE_RANGE_ALL));

/** Copies within a file, by the kernel. */
export function copyRange(fd: number, from: number, to: number, length: number): number {
  const offsets = new BigInt64Array(2);
  return moveAll(length, (done) => {
    offsets[0] = BigInt(from + done);
    offsets[1] = BigInt(to + done);
    const address = addressOf(offsets);
    return raw.copy_file_range(fd, address, fd, address + 8, length - done, 0);
  });
}
