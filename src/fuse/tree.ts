// The files and their metadata: one directory with files, or a single file.
//
// Both backends use it for every metadata request. Pure: no clock (times come as milliseconds since 1970) and no I/O.
// Results are errnos, 0 for success.

import { EACCES, EPERM, EROFS } from '../constants/errno.js';
import { S_IFDIR, S_IFREG, S_ISGID, S_ISUID, S_IXGRP } from '../constants/file-mode.js';
import { O_ACCMODE } from '../constants/open-flags.js';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FUSE_ROOT_ID,
} from './constants.js';
import { WritebackErrors } from './writeback-errors.js';

/** W_OK of access(2), and the same bit of a permission triple. */
const MAY_WRITE = 2;

/** The set-user-ID and set-group-ID bits. */
export const SET_ID = S_ISUID | S_ISGID;

/** `st_blocks` of so many bytes. */
export function statBlocks(bytes: bigint): bigint {
  return (bytes + STAT_BLOCK - 1n) / STAT_BLOCK;
}

/** Unit of `st_blocks` in bytes. */
const STAT_BLOCK = 512n;

/** A file. */
export interface FileDescription {
  /** One path component; empty for a single file. */
  readonly name: string;
  /** Size in bytes, 0 to 2^63-1. */
  readonly size: bigint;
  readonly readOnly: boolean;
  /** `st_blksize` in bytes. */
  readonly blockSize: number;
  /** The errors for fsync(2) of another file of the same disk. Default: its own. */
  readonly errors?: WritebackErrors;
  /** Whether size and attributes are known. If not, `describe` sets them later. Default: true. */
  readonly known?: boolean;
}

/** Options for all files. */
export interface TreeOptions {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits to remove. */
  readonly umask: number;
  /** Initial value of all times, in milliseconds since 1970. */
  readonly now: number;
}

/** A directory or a file. */
export interface Node {
  readonly nodeid: number;
  readonly isDirectory: boolean;
  readonly name: string;
  size: bigint;
  readOnly: boolean;
  blockSize: number;
  /** Whether size and attributes are known. */
  known: boolean;
  /** The kernel's lookup count of the node. */
  lookups: number;
  mode: number;
  uid: number;
  gid: number;
  /** Times in milliseconds since 1970. */
  atime: number;
  mtime: number;
  ctime: number;
  /** `st_blocks`, in units of 512 bytes. */
  blocks: bigint;
  /** The errors for fsync(2). They outlive the connections of the file. */
  readonly errors: WritebackErrors;
}

/** Clears the set-ID bits, as FUSE_HANDLE_KILLPRIV_V2 promises for writes, truncations and changes of the owner. */
export function killSetId(node: Node): void {
  const group = (node.mode & S_IXGRP) !== 0 ? S_ISGID : 0;
  node.mode &= ~(S_ISUID | group);
}

/** Updates the times after a change of the file's data. @param now milliseconds since 1970 */
export function touchNode(node: Node, now: number): void {
  node.mtime = now;
}

/** A SETATTR; times in milliseconds since 1970. */
export interface AttributeChange {
  /** `FATTR_*` or-ed: the fields to set. */
  readonly valid: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: bigint;
  readonly atime: number;
  readonly mtime: number;
  /** Whether it belongs to an open(2) with O_TRUNC. */
  readonly byOpen: boolean;
}

/** The directory with its files (node ids 2, 3, …), or the single file that is its own root. */
export class Tree {
  readonly root: Node;
  readonly #nodes = new Map<number, Node>();
  readonly #byName = new Map<string, Node>();
  readonly #options: TreeOptions;
  /** The directory's files by ascending node id; undefined after a change. */
  #sorted: readonly Node[] | undefined;
  #nextId = FUSE_ROOT_ID + 1;

  /**
   * @param files exactly one if `fileMountpoint`
   * @param fileMountpoint the single file is the root: the mountpoint is a file
   */
  constructor(files: readonly FileDescription[], fileMountpoint: boolean, options: TreeOptions) {
    this.#options = options;
    if (fileMountpoint) {
      this.root = this.#makeFile(files[0], FUSE_ROOT_ID);
      this.#nodes.set(FUSE_ROOT_ID, this.root);
      return;
    }
    this.root = {
      ...this.#owned(),
      nodeid: FUSE_ROOT_ID,
      isDirectory: true,
      name: '',
      size: 0n,
      readOnly: files.length > 0 && files.every((file) => file.readOnly),
      blockSize: 4096,
      known: true,
      lookups: 0,
      mode: S_IFDIR | (0o755 & ~options.umask),
      blocks: 0n,
      errors: new WritebackErrors(),
    };
    this.#nodes.set(FUSE_ROOT_ID, this.root);
    for (const file of files) this.add(file);
  }

  /** Adds a file. Returns its node. */
  add(file: FileDescription): Node {
    const node = this.#makeFile(file, this.#nextId++);
    this.#nodes.set(node.nodeid, node);
    this.#byName.set(node.name, node);
    this.#sorted = undefined;
    return node;
  }

  /** Removes a file from the directory. Its node exists until the kernel forgets it. */
  remove(name: string): void {
    const node = this.#byName.get(name);
    if (node === undefined) return;
    this.#byName.delete(name);
    this.#sorted = undefined;
    this.forget(node.nodeid, 0);
  }

  /** Sets the description of a file that the kernel has not looked up yet. */
  describe(node: Node, file: FileDescription): void {
    const { size, readOnly, blockSize, mode, blocks } = this.#makeFile(file, node.nodeid);
    Object.assign(node, { size, readOnly, blockSize, mode, blocks, known: true });
  }

  /** The kernel has got the node in one more reply, and will forget it as often. */
  remember(node: Node): void {
    node.lookups++;
  }

  /** FUSE_FORGET: lowers a node's lookup count by `times`. */
  forget(nodeid: number, times: number): void {
    const node = this.#nodes.get(nodeid);
    if (node === undefined) return;
    node.lookups -= times;
    if (node.lookups <= 0 && !this.isShown(node)) this.#nodes.delete(nodeid);
  }

  /** Whether the node is the root or in the directory. */
  isShown(node: Node): boolean {
    return node === this.root || this.#byName.get(node.name) === node;
  }

  /** The node with an id. */
  node(nodeid: number): Node | undefined {
    return this.#nodes.get(nodeid);
  }

  /** The file with a name in the directory. */
  lookup(name: string): Node | undefined {
    return this.#byName.get(name);
  }

  /** The directory's files in the order of their addition, which is by ascending node id. */
  files(): readonly Node[] {
    this.#sorted ??= this.root.isDirectory ? [...this.#byName.values()] : [this.root];
    return this.#sorted;
  }

  /** The directory's next `count` files after node id `nodeid`. */
  filesBeyond(nodeid: number, count: number): readonly Node[] {
    const files = this.files();
    let low = 0;
    let high = files.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (files[middle].nodeid <= nodeid) low = middle + 1;
      else high = middle;
    }
    return files.slice(low, low + count);
  }

  /** Updates the directory's times. @param now milliseconds since 1970 */
  touch(now: number): void {
    touchNode(this.root, now);
    this.root.ctime = now;
  }

  /** open(2): EROFS for a writer of a read-only file. @param flags of open(2) */
  open(node: Node, flags: number): number {
    return (flags & O_ACCMODE) !== 0 && node.readOnly ? EROFS : 0;
  }

  /** access(2) by `uid` and `gid`. @param mask R_OK, W_OK and X_OK or-ed */
  access(node: Node, mask: number, uid: number, gid: number): number {
    if ((mask & MAY_WRITE) !== 0 && node.readOnly) return EROFS;
    if (uid === 0) return 0;
    const shift = uid === node.uid ? 6 : gid === node.gid ? 3 : 0;
    return (mask & ~(node.mode >> shift) & 7) === 0 ? 0 : EACCES;
  }

  /**
   * Sets attributes. The size of a file is that of its disk: EPERM for any other size, no effect for the same size and
   * for O_TRUNC.
   */
  setAttributes(node: Node, change: AttributeChange, now: number): number {
    if ((change.valid & FATTR_SIZE) !== 0 && change.size !== node.size) {
      if (change.size !== 0n || !change.byOpen) return EPERM;
      if (node.readOnly) return EROFS;
    }
    if ((change.valid & FATTR_KILL_SUIDGID) !== 0) killSetId(node);
    if ((change.valid & FATTR_MODE) !== 0) node.mode = (node.mode & ~0o7777) | (change.mode & 0o7777);
    if ((change.valid & FATTR_UID) !== 0) node.uid = change.uid;
    if ((change.valid & FATTR_GID) !== 0) node.gid = change.gid;
    if ((change.valid & FATTR_ATIME) !== 0) {
      node.atime = (change.valid & FATTR_ATIME_NOW) !== 0 ? now : change.atime;
    }
    if ((change.valid & FATTR_MTIME) !== 0) {
      node.mtime = (change.valid & FATTR_MTIME_NOW) !== 0 ? now : change.mtime;
    }
    node.ctime = now;
    return 0;
  }

  #owned(): Pick<Node, 'uid' | 'gid' | 'atime' | 'mtime' | 'ctime'> {
    const { uid, gid, now } = this.#options;
    return { uid, gid, atime: now, mtime: now, ctime: now };
  }

  #makeFile(file: FileDescription, nodeid: number): Node {
    const bits = (file.readOnly ? 0o444 : 0o666) & ~this.#options.umask;
    return {
      ...this.#owned(),
      nodeid,
      isDirectory: false,
      name: file.name,
      size: file.size,
      readOnly: file.readOnly,
      blockSize: file.blockSize,
      known: file.known !== false,
      lookups: 0,
      mode: S_IFREG | bits,
      blocks: statBlocks(file.size),
      errors: file.errors ?? new WritebackErrors(),
    };
  }
}
