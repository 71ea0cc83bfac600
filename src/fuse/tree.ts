// The file system that is shown: one directory with files, or one file alone, and its metadata.
//
// Both backends ask it for every metadata operation. Pure: it knows no clock (the time comes as
// milliseconds since 1970) and no I/O. Results are errnos, 0 for success.

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
  S_IFDIR,
  S_IFREG,
} from './constants.js';

const EPERM = 1;
const EACCES = 13;
const EROFS = 30;

/** access(2)'s W_OK, and the same bit in a permission triple. */
const MAY_WRITE = 2;
const O_ACCMODE = 3;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;
/** The bits by which a program runs with the rights of its file's owner or group. */
export const SET_ID = S_ISUID | S_ISGID;

/** Bytes of the blocks that `st_blocks` counts. */
const STAT_BLOCK = 512n;

/** A file to be shown. */
export interface FileDescription {
  /** One path component, or empty for a file mounted on its own. */
  readonly name: string;
  /** Bytes, 0 to 2^63-1. */
  readonly size: bigint;
  readonly readOnly: boolean;
  /** Bytes: `st_blksize`. */
  readonly blockSize: number;
  /** False: size and all that are not known yet, `describe` will tell them. Default: true. */
  readonly known?: boolean;
}

/** How files are shown, whatever they are. */
export interface TreeOptions {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits that are taken away. */
  readonly umask: number;
  /** Milliseconds since 1970: all times of all files at the start. */
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
  /** Whether size, mode and all that are known. */
  known: boolean;
  /** How often the kernel has been given the node and has not forgotten it. */
  lookups: number;
  mode: number;
  uid: number;
  gid: number;
  /** Milliseconds since 1970. */
  atime: number;
  mtime: number;
  ctime: number;
  /** 512-byte blocks: `st_blocks`. */
  blocks: bigint;
}

/** Clears the set-ID bits, as FUSE_HANDLE_KILLPRIV_V2 promises for writes, truncations and changes of the owner. */
export function killSetId(node: Node): void {
  const group = (node.mode & S_IXGRP) !== 0 ? S_ISGID : 0;
  node.mode &= ~(S_ISUID | group);
}

/** Notes a change of the file's bytes. @param now milliseconds since 1970 */
export function touchNode(node: Node, now: number): void {
  node.mtime = now;
}

/** What a SETATTR asks for; times in milliseconds since 1970. */
export interface AttributeChange {
  /** `FATTR_*` or-ed: which of the fields count. */
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
  /** The directory's files by rising node ids, until they change. */
  #sorted: readonly Node[] | undefined;
  #nextId = FUSE_ROOT_ID + 1;

  /**
   * @param files exactly one when `naked`
   * @param naked the file itself is the root: the mountpoint is a file
   */
  constructor(files: readonly FileDescription[], naked: boolean, options: TreeOptions) {
    this.#options = options;
    if (naked) {
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
    };
    this.#nodes.set(FUSE_ROOT_ID, this.root);
    for (const file of files) this.add(file);
  }

  /** Shows one more file, and returns its node. */
  add(file: FileDescription): Node {
    const node = this.#makeFile(file, this.#nextId++);
    this.#nodes.set(node.nodeid, node);
    this.#byName.set(node.name, node);
    this.#sorted = undefined;
    return node;
  }

  /** Shows a file no more; who has it open keeps it, until the kernel forgets it. */
  remove(name: string): void {
    const node = this.#byName.get(name);
    if (node === undefined) return;
    this.#byName.delete(name);
    this.#sorted = undefined;
    this.forget(node.nodeid, 0);
  }

  /** Tells what was not known of a file that the kernel has not been given yet. */
  describe(node: Node, file: FileDescription): void {
    const { size, readOnly, blockSize, mode, blocks } = this.#makeFile(file, node.nodeid);
    Object.assign(node, { size, readOnly, blockSize, mode, blocks, known: true });
  }

  /** The kernel has forgotten a node so many times that it was given. */
  forget(nodeid: number, times: number): void {
    const node = this.#nodes.get(nodeid);
    if (node === undefined) return;
    node.lookups -= times;
    if (node.lookups <= 0 && !this.isShown(node)) this.#nodes.delete(nodeid);
  }

  /** Whether the node is the root or one of the directory's files. */
  isShown(node: Node): boolean {
    return node === this.root || this.#byName.get(node.name) === node;
  }

  /** The node of an id that the kernel has been given. */
  node(nodeid: number): Node | undefined {
    return this.#nodes.get(nodeid);
  }

  /** The file of this name in the directory. */
  lookup(name: string): Node | undefined {
    return this.#byName.get(name);
  }

  /** The directory's files, in the order in which they were added: by rising node ids. */
  files(): readonly Node[] {
    this.#sorted ??= this.root.isDirectory ? [...this.#byName.values()] : [this.root];
    return this.#sorted;
  }

  /** At most `count` of the directory's files, from the first one on whose node id is beyond `nodeid`. */
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

  /** The directory has changed. @param now milliseconds since 1970 */
  touch(now: number): void {
    this.root.mtime = now;
    this.root.ctime = now;
  }

  /** open(2): EROFS for a writer of a read-only file. `flags` are open(2)'s. */
  open(node: Node, flags: number): number {
    return (flags & O_ACCMODE) !== 0 && node.readOnly ? EROFS : 0;
  }

  /** access(2): `mask` is R_OK, W_OK and X_OK or-ed, asked by `uid` and `gid`. */
  access(node: Node, mask: number, uid: number, gid: number): number {
    if ((mask & MAY_WRITE) !== 0 && node.readOnly) return EROFS;
    if (uid === 0) return 0;
    const shift = uid === node.uid ? 6 : gid === node.gid ? 3 : 0;
    return (mask & ~(node.mode >> shift) & 7) === 0 ? 0 : EACCES;
  }

  /**
   * A file's size is the disk's: setting it to what it is, or opening with O_TRUNC, changes nothing,
   * any other size gives EPERM.
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
      blocks: (file.size + STAT_BLOCK - 1n) / STAT_BLOCK,
    };
  }
}
