// Answers the kernel's metadata requests from the tree, at once.
//
// Called by the dispatcher for the request in the device's buffer.

import { EISDIR, ENOENT, ENOTDIR } from '../../constants/errno.js';
import { O_ACCMODE, O_DIRECT } from '../../constants/open-flags.js';
import {
  FATTR_FH,
  FATTR_SIZE,
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_ROOT_ID,
} from '../../fuse/constants.js';
import {
  ACCESS_MASK,
  BATCH_FORGET_COUNT,
  BATCH_FORGET_COUNT_LO,
  BATCH_FORGET_ENTRIES,
  BATCH_FORGET_ENTRY,
  BATCH_FORGET_NODEID_LO,
  FILE_HANDLE,
  FORGET_COUNT_LO,
  HOST_ENDIAN,
  IN_GID,
  IN_HEADER,
  IN_PID,
  IN_UID,
  OUT_HEADER,
  RELEASE_FLAGS,
  SETATTR_ATIME,
  SETATTR_ATIMENSEC,
  SETATTR_GID,
  SETATTR_MODE,
  SETATTR_MTIME,
  SETATTR_MTIMENSEC,
  SETATTR_SIZE,
  SETATTR_UID,
  SETATTR_VALID,
} from '../../fuse/layout.js';
import {
  type DirectoryEntry,
  type Validity,
  writeAttributesExpired,
  writeAttrReply,
  writeDirectory,
  writeEntryReply,
  writeNegativeEntry,
  writeOpenReply,
  writeStatfsReply,
} from '../../fuse/reply.js';
import { type Node, SET_ID, type Tree } from '../../fuse/tree.js';
import type { CacheMode } from '../contract/status.js';
import type { Device, Requester } from '../device/device.js';
import type { Clock } from '../device/system.js';
import type { Disk } from '../disk/disk.js';
import type { Passthrough } from './passthrough.js';
import { RecentOpens } from './recent-opens.js';

/** Size in bytes of the shortest directory entry. */
const LEAST_ENTRY = 32;

/**
 * Seconds for which the kernel may cache attributes with a changing `st_blocks` when it asks for them before a write.
 * Without this time it would ask before each write.
 */
const WRITER_VALIDITY = 1;

/**
 * Milliseconds between two notifications that attributes have expired, except for so many in a burst. Each one costs a
 * GETATTR before the next write: too much for a program that calls fsync(2) all the time.
 */
const NOTIFY_PERIOD = 20;
const NOTIFY_BURST = 25;

/** Settings of the replies. */
export interface MetadataOptions {
  readonly cache: CacheMode;
  /** Seconds that the kernel may cache names and attributes. They change only through this kernel. */
  readonly validity: Validity;
  /** The same for attributes with a changing `st_blocks`, as the user says; undefined: as this file says. */
  readonly blocksValidity: number | undefined;
  readonly negativeValidity: number;
  /** Whether an open keeps cached pages, as without `-o auto_cache`. */
  readonly keepPages: boolean;
  /** Whether files come and go, so that the kernel must not cache the directory. */
  readonly changing: boolean;
  /** Undefined where the kernel never reads a file without nbdfuse. */
  readonly passthrough: Passthrough | undefined;
  /** Time of day, for SETATTR. */
  readonly wallClock: Clock;
}

/** The name in a request, without its NUL. */
export function nameIn(bytes: Uint8Array, start: number, length: number): string {
  const end = bytes.indexOf(0, start);
  return new TextDecoder().decode(bytes.subarray(start, end < 0 || end > length ? length : end));
}

/** See the file's head. Each method answers one opcode and returns the errno of the reply. */
export class Metadata {
  readonly #disks: ReadonlyMap<number, Disk>;
  readonly #tree: Tree;
  readonly #device: Device;
  readonly #options: MetadataOptions;
  readonly #opens = new RecentOpens();
  /** The nodes whose changing attributes the kernel may have cached. */
  readonly #cached = new Set<number>();
  /** The time of the next notification. A burst lets it lag behind the clock, which may jump. */
  #notifyAt = Number.NEGATIVE_INFINITY;

  /** @param disks the disk of each node id */
  constructor(tree: Tree, device: Device, disks: ReadonlyMap<number, Disk>, options: MetadataOptions) {
    this.#disks = disks;
    this.#tree = tree;
    this.#device = device;
    this.#options = options;
  }

  lookup(parent: number, name: string, requester: Requester): number {
    if (parent !== FUSE_ROOT_ID || !this.#tree.root.isDirectory) return this.#error(ENOTDIR, requester);
    const node = this.#tree.lookup(name);
    if (node === undefined) {
      if (this.#options.negativeValidity === 0) return this.#error(ENOENT, requester);
      return this.#reply(writeNegativeEntry(this.#device.small, this.#options.negativeValidity), requester);
    }
    this.#tree.remember(node);
    return this.#reply(writeEntryReply(this.#device.small, node, this.#validityOf(node)), requester);
  }

  /** FUSE_FORGET and FUSE_BATCH_FORGET, which have no reply. */
  forget(nodeid: number, view: DataView): void {
    this.#tree.forget(nodeid, view.getUint32(FORGET_COUNT_LO, HOST_ENDIAN));
  }

  batchForget(view: DataView, length: number): void {
    const count = view.getUint32(BATCH_FORGET_COUNT, HOST_ENDIAN);
    const end = Math.min(BATCH_FORGET_ENTRIES + count * BATCH_FORGET_ENTRY, length);
    for (let at = BATCH_FORGET_ENTRIES; at + BATCH_FORGET_ENTRY <= end; at += BATCH_FORGET_ENTRY) {
      const nodeid = view.getUint32(at + BATCH_FORGET_NODEID_LO, HOST_ENDIAN);
      this.#tree.forget(nodeid, view.getUint32(at + BATCH_FORGET_COUNT_LO, HOST_ENDIAN));
    }
  }

  /** @param byHandle as FUSE_GETATTR_FH says */
  getattr(nodeid: number, byHandle: boolean, requester: Requester): number {
    const node = this.#tree.node(nodeid);
    if (node === undefined) return this.#error(ENOENT, requester);
    const validity = this.#validityOf(node, byHandle);
    if (validity.attributes === WRITER_VALIDITY) this.#cached.add(nodeid);
    return this.#reply(writeAttrReply(this.#device.small, node, validity), requester);
  }

  /** Lets the next stat(2) ask for the attributes again, as the data of a file have just been written. */
  expire(nodeid: number): void {
    if (!this.#cached.has(nodeid)) return;
    const now = this.#options.wallClock.now();
    const burst = NOTIFY_BURST * NOTIFY_PERIOD;
    const due = Math.abs(now - this.#notifyAt) > burst ? now - burst : this.#notifyAt;
    if (due > now) return;
    this.#cached.delete(nodeid);
    this.#notifyAt = due + NOTIFY_PERIOD;
    this.#device.notify(FUSE_NOTIFY_INVAL_INODE, writeAttributesExpired(this.#device.small, nodeid));
  }

  setattr(nodeid: number, view: DataView, requester: Requester): number {
    const node = this.#tree.node(nodeid);
    if (node === undefined) return this.#error(ENOENT, requester);
    const time = (at: number, nanosecondsAt: number): number =>
      Number(view.getBigInt64(at, HOST_ENDIAN)) * 1000 + view.getUint32(nanosecondsAt, HOST_ENDIAN) / 1e6;
    const valid = view.getUint32(SETATTR_VALID, HOST_ENDIAN);
    if (node.isDirectory && (valid & FATTR_SIZE) !== 0) return this.#error(EISDIR, requester);
    const size = view.getBigUint64(SETATTR_SIZE, HOST_ENDIAN);
    const isTruncate = (valid & FATTR_SIZE) !== 0 && (valid & FATTR_FH) === 0 && size === 0n;
    const change = {
      valid,
      byOpen: isTruncate && this.#opens.truncates(nodeid, view.getUint32(IN_PID, HOST_ENDIAN)),
      size,
      atime: time(SETATTR_ATIME, SETATTR_ATIMENSEC),
      mtime: time(SETATTR_MTIME, SETATTR_MTIMENSEC),
      mode: view.getUint32(SETATTR_MODE, HOST_ENDIAN),
      uid: view.getUint32(SETATTR_UID, HOST_ENDIAN),
      gid: view.getUint32(SETATTR_GID, HOST_ENDIAN),
    };
    const error = this.#tree.setAttributes(node, change, this.#options.wallClock.now());
    if (error !== 0) return this.#error(error, requester);
    return this.#reply(writeAttrReply(this.#device.small, node, this.#validityOf(node)), requester);
  }

  /** @param wanted the flags of open(2) */
  open(nodeid: number, wanted: number, pid: number, requester: Requester): number {
    const node = this.#tree.node(nodeid);
    if (node === undefined) return this.#error(ENOENT, requester);
    const error = this.#tree.open(node, wanted);
    if (error !== 0) return this.#error(error, requester);
    const disk = this.#disks.get(nodeid);
    const { cache, keepPages, passthrough } = this.#options;
    const direct = cache === 'none' || (wanted & O_DIRECT) !== 0;
    const through = disk === undefined ? undefined : passthrough?.open(disk, direct);
    disk?.opened((wanted & O_ACCMODE) !== 0);
    const handle = this.#opens.opened(nodeid, pid);
    node.errors.opened(handle);
    const flags = through?.flags ?? openFlags(direct, keepPages);
    return this.#reply(writeOpenReply(this.#device.small, flags, handle, through?.backing), requester);
  }

  release(nodeid: number, view: DataView, requester: Requester): number {
    const handle = Number(view.getBigUint64(FILE_HANDLE, HOST_ENDIAN));
    this.#opens.released(handle);
    this.#tree.node(nodeid)?.errors.released(handle);
    this.#disks.get(nodeid)?.closed((view.getUint32(RELEASE_FLAGS, HOST_ENDIAN) & O_ACCMODE) !== 0);
    return this.#error(0, requester);
  }

  opendir(requester: Requester): number {
    return this.#reply(
      writeOpenReply(
        this.#device.small,
        this.#options.changing || !this.#options.keepPages ? 0 : FOPEN_CACHE_DIR,
      ),
      requester,
    );
  }

  /** @param first the offset after the previous entry; 0: none @param size bytes of the kernel's buffer */
  readdir(first: number, size: number, plus: boolean, requester: Requester): number {
    const room = Math.min(size, this.#device.small.byteLength - OUT_HEADER);
    const tell = ({ node }: DirectoryEntry): Validity => {
      const child = this.#tree.node(node.nodeid);
      if (child === undefined) return this.#options.validity;
      this.#tree.remember(child);
      return this.#validityOf(child);
    };
    const entries = this.#entries(first, Math.ceil(room / LEAST_ENTRY));
    return this.#reply(writeDirectory(this.#device.small, entries, room, plus ? tell : undefined), requester);
  }

  /** The offset of an entry is its node id plus one, which stays the same while other entries come and go. */
  *#entries(first: number, count: number): Generator<DirectoryEntry> {
    const { root } = this.#tree;
    const encoder = new TextEncoder();
    const dots = { node: root, withAttributes: false };
    if (first < 1) yield { ...dots, name: encoder.encode('.'), offset: 1 };
    if (first < 2) yield { ...dots, name: encoder.encode('..'), offset: 2 };
    for (const node of this.#tree.filesBeyond(first - 1, count)) {
      yield { name: encoder.encode(node.name), node, offset: node.nodeid + 1, withAttributes: node.known };
    }
  }

  access(nodeid: number, view: DataView, requester: Requester): number {
    const node = this.#tree.node(nodeid);
    if (node === undefined) return this.#error(ENOENT, requester);
    const uid = view.getUint32(IN_UID, HOST_ENDIAN);
    const gid = view.getUint32(IN_GID, HOST_ENDIAN);
    return this.#error(
      this.#tree.access(node, view.getUint32(ACCESS_MASK, HOST_ENDIAN), uid, gid),
      requester,
    );
  }

  statfs(requester: Requester): number {
    const files = this.#tree.files();
    const isPart = (file: Node): boolean => (this.#disks.get(file.nodeid)?.node ?? file) !== file;
    const bytes = files.reduce((sum, file) => (isPart(file) ? sum : sum + file.size), 0n);
    return this.#reply(writeStatfsReply(this.#device.small, bytes, files.length, 4096), requester);
  }

  /** stat(2) must ask for attributes with a changing `st_blocks`. @param byHandle the kernel asks before a write */
  #validityOf(node: Node, byHandle = false): Validity {
    const disk = this.#disks.get(node.nodeid);
    const { validity, changing } = this.#options;
    // A write may clear set-id bits, and the kernel does not read them again automatically.
    if (!node.isDirectory && (node.mode & SET_ID) !== 0) return { ...validity, attributes: 0 };
    if (changing && node.isDirectory) return { ...validity, attributes: validity.entry };
    if (disk === undefined ? !changing : !disk.can.allocation) return validity;
    if (disk === undefined) return { ...validity, attributes: 0 };
    return { ...validity, attributes: this.#options.blocksValidity ?? (byHandle ? WRITER_VALIDITY : 0) };
  }

  #reply(bodyLength: number, requester: Requester): number {
    this.#device.replySmall(bodyLength, requester);
    return 0;
  }

  #error(error: number, requester: Requester): number {
    this.#device.replyError(error, requester);
    return error;
  }
}

/** The flags of a reply to OPEN. Direct writers need not wait for one another; the kernel keeps its cache coherent. */
function openFlags(direct: boolean, keepPages: boolean): number {
  const keep = keepPages ? FOPEN_KEEP_CACHE : 0;
  return direct ? FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | keep : keep;
}

/** Offset of the name in a LOOKUP. */
export const LOOKUP_NAME = IN_HEADER;
