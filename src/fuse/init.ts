// FUSE_INIT, the first message of a mount, which negotiates its features. Pure.

import {
  FUSE_ASYNC_DIO,
  FUSE_ASYNC_READ,
  FUSE_BIG_WRITES,
  FUSE_DIRECT_IO_ALLOW_MMAP_2,
  FUSE_DO_READDIRPLUS,
  FUSE_EXPLICIT_INVAL_DATA,
  FUSE_HANDLE_KILLPRIV_V2,
  FUSE_INIT_EXT,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  FUSE_PARALLEL_DIROPS,
  FUSE_PASSTHROUGH_2,
  FUSE_READDIRPLUS_AUTO,
  FUSE_WRITEBACK_CACHE,
} from './constants.js';
import {
  HOST_ENDIAN,
  INIT_FLAGS,
  INIT_FLAGS2,
  INIT_MAJOR,
  INIT_MAX_READAHEAD,
  INIT_MINOR,
  OUT_HEADER,
} from './layout.js';

/** Oldest supported minor version of protocol 7: Linux 4.20, which has FUSE_MAX_PAGES. */
const OLDEST_MINOR = 28;

/**
 * For max_readahead: the kernel takes the minimum of this and the mount's current value. Root may have raised that
 * since the kernel sent its own value, so repeating the kernel's value would undo it.
 */
const NO_LIMIT = 0xffffffff;

/** Length of `fuse_init_out` in bytes. */
export const INIT_OUT_LENGTH = 64;

/**
 * File systems that may lie on one another below a file that the kernel reads without nbdfuse: that of the file. The mount
 * then counts as one that lies on another.
 */
const MAX_STACK_DEPTH = 1;

/** Most asynchronous requests in flight before the kernel makes readers and writers wait. */
const MAX_BACKGROUND = 64;

/** The kernel's FUSE_INIT. */
export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
}

/** The features to request. */
export interface InitOptions {
  /** Whether the kernel has a writeback cache. */
  readonly writeback: boolean;
  /** Whether files open for direct I/O can be mapped; the kernel then sends one direct write at a time. */
  readonly directMmap: boolean;
  /** Whether the kernel may read local files without nbdfuse where an OPEN says so. Not together with `writeback`. */
  readonly passthrough: boolean;
  /** False: the kernel sends one READ at a time (`-o sync_read`). */
  readonly asyncRead: boolean;
  /** Largest READ or WRITE in bytes: a multiple of the page size. */
  readonly maxTransfer: number;
  /** The kernel's page size in bytes, its unit for the largest request. */
  readonly pageSize: number;
  /** `-o max_background=`, `congestion_threshold=`, `max_readahead=` (bytes). */
  readonly maxBackground?: number;
  readonly congestionThreshold?: number;
  readonly maxReadahead?: number;
}

/** Reads a FUSE_INIT request. */
export function readInit(view: DataView, length: number): InitRequest {
  return {
    major: view.getUint32(INIT_MAJOR, HOST_ENDIAN),
    minor: view.getUint32(INIT_MINOR, HOST_ENDIAN),
    maxReadahead: view.getUint32(INIT_MAX_READAHEAD, HOST_ENDIAN),
    flags: view.getUint32(INIT_FLAGS, HOST_ENDIAN),
    flags2: length >= INIT_FLAGS2 + 4 ? view.getUint32(INIT_FLAGS2, HOST_ENDIAN) : 0,
  };
}

/** Why this kernel is not supported; undefined if it is. */
export function initObjection(request: InitRequest): string | undefined {
  if (request.major === FUSE_KERNEL_VERSION && request.minor >= OLDEST_MINOR) return undefined;
  return `the kernel speaks FUSE ${request.major}.${request.minor}, 7.${OLDEST_MINOR} (Linux 4.20) or newer is needed`;
}

/** Writes `fuse_init_out` after the 16 bytes of header in `view`. Returns its length in bytes. */
export function writeInitReply(view: DataView, request: InitRequest, options: InitOptions): number {
  let wanted =
    FUSE_BIG_WRITES |
    FUSE_MAX_PAGES |
    FUSE_PARALLEL_DIROPS |
    FUSE_ASYNC_DIO |
    FUSE_EXPLICIT_INVAL_DATA |
    FUSE_DO_READDIRPLUS |
    // Without this the kernel reads `security.capability` before every write.
    FUSE_HANDLE_KILLPRIV_V2 |
    FUSE_READDIRPLUS_AUTO |
    FUSE_INIT_EXT;
  if (options.writeback) wanted |= FUSE_WRITEBACK_CACHE;
  if (options.asyncRead) wanted |= FUSE_ASYNC_READ;
  const maxBackground = Math.min(options.maxBackground ?? MAX_BACKGROUND, 0xffff);
  const threshold = Math.min(
    options.congestionThreshold ?? Math.ceil((maxBackground * 3) / 4),
    maxBackground,
  );
  for (let at = OUT_HEADER; at < OUT_HEADER + INIT_OUT_LENGTH; at += 4) view.setUint32(at, 0);
  view.setUint32(OUT_HEADER, FUSE_KERNEL_VERSION, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 4, Math.min(request.minor, FUSE_KERNEL_MINOR_VERSION), HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 8, options.maxReadahead ?? NO_LIMIT, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 12, (request.flags & wanted) >>> 0, HOST_ENDIAN);
  view.setUint16(OUT_HEADER + 16, maxBackground, HOST_ENDIAN);
  view.setUint16(OUT_HEADER + 18, threshold, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 20, options.maxTransfer, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 24, 1, HOST_ENDIAN);
  view.setUint16(
    OUT_HEADER + 28,
    Math.max(1, Math.floor(options.maxTransfer / options.pageSize)),
    HOST_ENDIAN,
  );
  let wanted2 = options.directMmap ? FUSE_DIRECT_IO_ALLOW_MMAP_2 : 0;
  if (options.passthrough) wanted2 |= FUSE_PASSTHROUGH_2;
  const flags2 = request.flags2 & wanted2;
  view.setUint32(OUT_HEADER + 32, flags2, HOST_ENDIAN);
  if ((flags2 & FUSE_PASSTHROUGH_2) !== 0) view.setUint32(OUT_HEADER + 36, MAX_STACK_DEPTH, HOST_ENDIAN);
  return INIT_OUT_LENGTH;
}
