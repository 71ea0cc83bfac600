// Encodes replies to the kernel's metadata requests into memory of the caller. Pure.
//
// Every function writes a body from byte 16 of the view on and returns its length; `writeOutHeader` fills the first 16
// bytes.

import { HOST_ENDIAN, OUT_HEADER } from './layout.js';

const ATTR_LENGTH = 88;
const ENTRY_LENGTH = 40 + ATTR_LENGTH;
const DIRENT_HEADER = 24;

/** Seconds for which the kernel may cache names and attributes. */
export interface Validity {
  readonly entry: number;
  readonly attributes: number;
}

/** The attributes of a file; times in milliseconds since 1970. */
export interface Attributes {
  readonly nodeid: number;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
  readonly blockSize: number;
  readonly isDirectory: boolean;
}

/** The kernel's number of a request, `unique` of fuse_in_header, as two halves. */
export interface RequestNumber {
  readonly uniqueLo: number;
  readonly uniqueHi: number;
}

/** Writes `fuse_out_header` at byte `at`. @param length includes the header @param errno positive or 0 */
export function writeOutHeader(
  view: DataView,
  at: number,
  length: number,
  errno: number,
  { uniqueLo, uniqueHi }: RequestNumber,
): void {
  view.setUint32(at, length, HOST_ENDIAN);
  view.setInt32(at + 4, -errno, HOST_ENDIAN);
  view.setUint32(at + 8, HOST_ENDIAN ? uniqueLo : uniqueHi, HOST_ENDIAN);
  view.setUint32(at + 12, HOST_ENDIAN ? uniqueHi : uniqueLo, HOST_ENDIAN);
}

function writeSeconds(view: DataView, at: number, nanosecondsAt: number, seconds: number): void {
  const whole = Math.floor(seconds);
  view.setBigUint64(at, BigInt(whole), HOST_ENDIAN);
  view.setUint32(nanosecondsAt, Math.round((seconds - whole) * 1e9), HOST_ENDIAN);
}

function writeTime(view: DataView, at: number, nanosecondsAt: number, milliseconds: number): void {
  const seconds = Math.floor(milliseconds / 1000);
  view.setBigInt64(at, BigInt(seconds), HOST_ENDIAN);
  view.setUint32(nanosecondsAt, Math.floor((milliseconds - seconds * 1000) * 1e6), HOST_ENDIAN);
}

function writeAttributes(view: DataView, at: number, node: Attributes): void {
  view.setBigUint64(at, BigInt(node.nodeid), HOST_ENDIAN);
  view.setBigUint64(at + 8, node.size, HOST_ENDIAN);
  view.setBigUint64(at + 16, node.blocks, HOST_ENDIAN);
  writeTime(view, at + 24, at + 48, node.atime);
  writeTime(view, at + 32, at + 52, node.mtime);
  writeTime(view, at + 40, at + 56, node.ctime);
  view.setUint32(at + 60, node.mode, HOST_ENDIAN);
  view.setUint32(at + 64, node.isDirectory ? 2 : 1, HOST_ENDIAN);
  view.setUint32(at + 68, node.uid, HOST_ENDIAN);
  view.setUint32(at + 72, node.gid, HOST_ENDIAN);
  view.setUint32(at + 76, 0, HOST_ENDIAN);
  view.setUint32(at + 80, node.blockSize, HOST_ENDIAN);
  view.setUint32(at + 84, 0, HOST_ENDIAN);
}

/** `fuse_attr_out`. */
export function writeAttrReply(view: DataView, node: Attributes, validity: Validity): number {
  writeSeconds(view, OUT_HEADER, OUT_HEADER + 8, validity.attributes);
  view.setUint32(OUT_HEADER + 12, 0, HOST_ENDIAN);
  writeAttributes(view, OUT_HEADER + 16, node);
  return 16 + ATTR_LENGTH;
}

function writeEntry(view: DataView, at: number, node: Attributes, validity: Validity): void {
  view.setBigUint64(at, BigInt(node.nodeid), HOST_ENDIAN);
  view.setBigUint64(at + 8, 0n, HOST_ENDIAN);
  writeSeconds(view, at + 16, at + 32, validity.entry);
  writeSeconds(view, at + 24, at + 36, validity.attributes);
  writeAttributes(view, at + 40, node);
}

/** `fuse_entry_out`. */
export function writeEntryReply(view: DataView, node: Attributes, validity: Validity): number {
  writeEntry(view, OUT_HEADER, node, validity);
  return ENTRY_LENGTH;
}

/** Entry reply for a name that does not exist, which the kernel may cache for `seconds`. */
export function writeNegativeEntry(view: DataView, seconds: number): number {
  for (let at = OUT_HEADER; at < OUT_HEADER + ENTRY_LENGTH; at += 4) view.setUint32(at, 0);
  writeSeconds(view, OUT_HEADER + 16, OUT_HEADER + 32, seconds);
  return ENTRY_LENGTH;
}

/** `fuse_open_out`. @param backing with FOPEN_PASSTHROUGH: the id of the file that the kernel reads */
export function writeOpenReply(view: DataView, openFlags: number, handle = 0, backing = 0): number {
  view.setBigUint64(OUT_HEADER, BigInt(handle), HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 8, openFlags, HOST_ENDIAN);
  view.setInt32(OUT_HEADER + 12, backing, HOST_ENDIAN);
  return 16;
}

/** `fuse_write_out`: the count of bytes written. */
export function writeWriteReply(view: DataView, at: number, count: number): number {
  view.setUint32(at + OUT_HEADER, count, HOST_ENDIAN);
  view.setUint32(at + OUT_HEADER + 4, 0, HOST_ENDIAN);
  return 8;
}

/** `fuse_notify_inval_inode_out` for the attributes of a node: a negative offset keeps its pages. */
export function writeAttributesExpired(view: DataView, nodeid: number): number {
  view.setBigUint64(OUT_HEADER, BigInt(nodeid), HOST_ENDIAN);
  view.setBigInt64(OUT_HEADER + 8, -1n, HOST_ENDIAN);
  view.setBigInt64(OUT_HEADER + 16, 0n, HOST_ENDIAN);
  return 24;
}

/** `fuse_lseek_out`. */
export function writeLseekReply(view: DataView, offset: bigint): number {
  view.setBigUint64(OUT_HEADER, offset, HOST_ENDIAN);
  return 8;
}

/** `fuse_getxattr_out`: the length in bytes of a value or a list. */
export function writeXattrSize(view: DataView, size: number): number {
  view.setUint32(OUT_HEADER, size, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 4, 0, HOST_ENDIAN);
  return 8;
}

/**
 * `fuse_statfs_out` of a file system with `bytes` bytes in `files` files. All blocks count as free: only the file systems
 * on the disks know which are in use, and a full file system would alarm programs that watch it.
 */
export function writeStatfsReply(
  view: DataView,
  bytes: bigint,
  files: number,
  readBlockSize: number,
): number {
  for (let at = OUT_HEADER; at < OUT_HEADER + 80; at += 4) view.setUint32(at, 0);
  const block = BigInt(readBlockSize);
  const blocks = (bytes + block - 1n) / block;
  // blocks, bfree, bavail
  for (const at of [0, 8, 16]) view.setBigUint64(OUT_HEADER + at, blocks, HOST_ENDIAN);
  view.setBigUint64(OUT_HEADER + 24, BigInt(files), HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 40, readBlockSize, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 44, 255, HOST_ENDIAN);
  view.setUint32(OUT_HEADER + 48, readBlockSize, HOST_ENDIAN);
  return 80;
}

/** An entry of a directory. */
export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly node: Attributes;
  /** The offset for the entry after it. */
  readonly offset: number;
  /** Whether READDIRPLUS adds its attributes. Never for `.` and `..`, as READDIRPLUS counts as a lookup. */
  readonly withAttributes: boolean;
}

/**
 * Writes as many entries as fit into `size` bytes, for READDIR, or for READDIRPLUS with `plus`, which gives the
 * validity of an entry with attributes. Returns the length in bytes.
 */
export function writeDirectory(
  view: DataView,
  entries: Iterable<DirectoryEntry>,
  size: number,
  plus: ((entry: DirectoryEntry) => Validity) | undefined,
): number {
  let at = 0;
  for (const entry of entries) {
    const { name, node, offset, withAttributes } = entry;
    const head = plus === undefined ? 0 : ENTRY_LENGTH;
    const length = (head + DIRENT_HEADER + name.length + 7) & ~7;
    if (at + length > size) break;
    const start = OUT_HEADER + at;
    for (let b = start; b < start + length; b += 4) view.setUint32(b, 0);
    if (plus !== undefined && withAttributes) writeEntry(view, start, node, plus(entry));
    view.setBigUint64(start + head, BigInt(node.nodeid), HOST_ENDIAN);
    view.setBigUint64(start + head + 8, BigInt(offset), HOST_ENDIAN);
    view.setUint32(start + head + 16, name.length, HOST_ENDIAN);
    view.setUint32(start + head + 20, node.mode >>> 12, HOST_ENDIAN);
    new Uint8Array(view.buffer, view.byteOffset + start + head + DIRENT_HEADER, name.length).set(name);
    at += length;
  }
  return at;
}
