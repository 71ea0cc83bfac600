// The files that a worker shows, and the disks behind those that are in use.
//
// Owned by the worker. A file's number is the main thread's name for it and is never used twice; its node
// is the kernel's. Where files come and go, a file has a disk only while it has connections or is open.

import { type FileDescription, type Node, Tree, type TreeOptions } from '../../fuse/tree.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { ServedFile } from '../contract/messages.js';
import { Disk, type DiskContext } from '../disk/disk.js';
import { makeCounters } from '../stats/counters.js';

/** Bytes: `st_blksize` where the server tells no preferred size. */
const BLOCK_SIZE = 4096;

/** One file. */
export interface FileEntry {
  readonly number: number;
  readonly file: ServedFile;
  readonly node: Node;
  disk: Disk | undefined;
  /** What its disks have done so far; made with the first. */
  counters: Float64Array | undefined;
}

/** What the tree is to show of a file. */
export function describe({ name, readOnly, info }: ServedFile): FileDescription {
  const blockSize = info?.blockSizes?.preferred ?? BLOCK_SIZE;
  return { name, readOnly, size: info?.size ?? 0n, blockSize, known: info !== undefined };
}

/** See the file's head. */
export class Files {
  readonly tree: Tree;
  /** The disks in use. */
  readonly disks: Disk[] = [];
  /** The same by their nodes' ids. */
  readonly byNode = new Map<number, Disk>();
  readonly #entries = new Map<number, FileEntry>();
  readonly #byNode = new Map<number, FileEntry>();
  readonly #context: DiskContext;

  /**
   * @param files shown from the start, all of them in use; their numbers are their places
   * @param naked the one file is the mountpoint itself
   */
  constructor(files: readonly ServedFile[], naked: boolean, options: TreeOptions, context: DiskContext) {
    this.#context = context;
    this.tree = new Tree(files.map(describe), naked, options);
    this.tree.files().forEach((node, number) => {
      const file = files[number];
      this.#enter({ number, file, node, disk: undefined, counters: undefined });
      if (file.info !== undefined) this.use(number, file.info);
    });
  }

  /** The file of a number, shown or still in use. */
  entry(number: number): FileEntry | undefined {
    return this.#entries.get(number);
  }

  /** The file of a node. */
  entryOf(nodeid: number): FileEntry | undefined {
    return this.#byNode.get(nodeid);
  }

  /** Shows one more file. */
  add(number: number, file: ServedFile): void {
    const node = this.tree.add(describe(file));
    this.#enter({ number, file, node, disk: undefined, counters: undefined });
  }

  /** Tells what was not known of a file. */
  describe(number: number, file: ServedFile): void {
    const entry = this.#entries.get(number);
    if (entry === undefined || entry.node.known) return;
    this.tree.describe(entry.node, describe(file));
    this.#enter({ ...entry, file });
  }

  /** Shows a file no more; one that is in use stays until it is not. */
  remove(number: number): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) return;
    if (this.tree.isShown(entry.node)) this.tree.remove(entry.node.name);
    if (entry.disk === undefined) this.#drop(entry);
  }

  /** The disk of a file, made if there is none. @throws RangeError when there is no such file */
  use(number: number, info: ExportInfo): Disk {
    const entry = this.#entries.get(number);
    if (entry === undefined) throw new RangeError(`there is no file ${number}`);
    if (entry.disk !== undefined) return entry.disk;
    entry.counters ??= makeCounters();
    const disk = new Disk(number, entry.node, info, this.#context, entry.counters);
    entry.disk = disk;
    this.disks.push(disk);
    this.byNode.set(entry.node.nodeid, disk);
    return disk;
  }

  /** Lets go of a disk that has nothing to do and no connections. */
  retire(disk: Disk): void {
    this.disks.splice(this.disks.indexOf(disk), 1);
    this.byNode.delete(disk.node.nodeid);
    const entry = this.#entries.get(disk.index);
    if (entry === undefined) return;
    entry.disk = undefined;
    if (!this.tree.isShown(entry.node)) this.#drop(entry);
  }

  /** What is known of a file that a status is asked for: its disk, or one made for the question. */
  diskForStatus(nodeid: number): Disk | undefined {
    const entry = this.#byNode.get(nodeid);
    const info = entry?.file.info;
    if (entry === undefined || info === undefined) return undefined;
    const { number, node, disk, counters = makeCounters() } = entry;
    return disk ?? new Disk(number, node, info, this.#context, counters);
  }

  #enter(entry: FileEntry): void {
    this.#entries.set(entry.number, entry);
    this.#byNode.set(entry.node.nodeid, entry);
  }

  #drop(entry: FileEntry): void {
    this.#entries.delete(entry.number);
    this.#byNode.delete(entry.node.nodeid);
  }
}
