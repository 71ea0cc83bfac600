// The files of a worker, and the disks behind the files in use.
//
// Owned by the worker. The main thread numbers the files and never reuses a number; the node id is the kernel's. With
// --all, a file has a disk only while it has connections or open handles.

import { type FileDescription, type Node, Tree, type TreeOptions } from '../../fuse/tree.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { PartDescription, ServedFile } from '../contract/messages.js';
import { MAX_TRANSFER } from '../device/device.js';
import { Disk, type DiskContext } from '../disk/disk.js';
import { makeCounters } from '../stats/counters.js';
import { DiskPart } from './disk-parts.js';

/** `st_blksize` in bytes where the server reports no preferred block size. */
const BLOCK_SIZE = 4096;

/** One file. */
export interface FileEntry {
  readonly number: number;
  readonly file: ServedFile;
  readonly node: Node;
  disk: Disk | undefined;
  /** Counters of all its disks; made with the first. */
  counters: Float64Array | undefined;
}

/** The description of a file for the tree. */
export function describe({ name, readOnly, info }: ServedFile): FileDescription {
  // Programs take buffers of this size.
  const blockSize = Math.min(info?.blockSizes?.preferred ?? BLOCK_SIZE, MAX_TRANSFER);
  return { name, readOnly, size: info?.size ?? 0n, blockSize, known: info !== undefined };
}

/** See the file's head. */
export class Files {
  readonly tree: Tree;
  /** The disks in use. */
  readonly disks: Disk[] = [];
  /** The same disks, by node id. */
  readonly byNode = new Map<number, Disk>();
  /** The parts of disks that are files, by node id. Their disks are in `byNode`, too. */
  readonly parts = new Map<number, DiskPart>();
  readonly #entries = new Map<number, FileEntry>();
  readonly #byNode = new Map<number, FileEntry>();
  readonly #context: DiskContext;
  /** Whether a removed file had an error that no fsync has reported. */
  #hasDroppedErrors = false;

  /**
   * @param files the files at the start, all in use; their numbers are their indexes
   * @param fileMountpoint the mountpoint itself is the only file
   */
  constructor(
    files: readonly ServedFile[],
    fileMountpoint: boolean,
    options: TreeOptions,
    context: DiskContext,
  ) {
    this.#context = context;
    this.tree = new Tree(files.map(describe), fileMountpoint, options);
    this.tree.files().forEach((node, number) => {
      const file = files[number];
      this.#enter({ number, file, node, disk: undefined, counters: undefined });
      if (file.info !== undefined) this.use(number, file.info);
    });
  }

  /** Whether a file has an error that no fsync has reported. Removed files count too. */
  get hasUnseenErrors(): boolean {
    return this.#hasDroppedErrors || [...this.#entries.values()].some(({ node }) => node.errors.unseen);
  }

  /** The file with a number, shown or still in use. */
  entry(number: number): FileEntry | undefined {
    return this.#entries.get(number);
  }

  /** The file of a node. */
  entryOf(nodeid: number): FileEntry | undefined {
    return this.#byNode.get(nodeid);
  }

  /** Adds a file. */
  add(number: number, file: ServedFile): void {
    const node = this.tree.add(describe(file));
    this.#enter({ number, file, node, disk: undefined, counters: undefined });
  }

  /** Updates the description of a file. */
  describe(number: number, file: ServedFile): void {
    const entry = this.#entries.get(number);
    if (entry === undefined || entry.node.known) return;
    this.tree.describe(entry.node, describe(file));
    this.#enter({ ...entry, file });
  }

  /** Hides a file. It is removed when it is no longer in use. */
  remove(number: number): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) return;
    if (this.tree.isShown(entry.node)) this.tree.remove(entry.node.name);
    if (entry.disk === undefined) this.#drop(entry);
  }

  /** The disk of a file, made if there is none. @throws RangeError without such a file */
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

  /** Shows a part of a file's disk, which must be in use, as a file. @throws RangeError without such a disk */
  addPart(number: number, part: PartDescription): void {
    const { disk } = this.#entries.get(number) ?? {};
    if (disk === undefined) throw new RangeError(`file ${number} has no disk`);
    const { readOnly, blockSize, errors } = disk.node;
    const node = this.tree.add({ name: part.name, size: part.size, readOnly, blockSize, errors });
    this.byNode.set(node.nodeid, disk);
    const shown = new DiskPart(disk, node, part);
    this.parts.set(node.nodeid, shown);
    disk.addPart(shown);
  }

  /** Removes a disk without connections and requests. */
  retire(disk: Disk): void {
    this.disks.splice(this.disks.indexOf(disk), 1);
    this.byNode.delete(disk.node.nodeid);
    // Nobody counts its blocks from now on.
    disk.mayHaveData();
    const entry = this.#entries.get(disk.index);
    if (entry === undefined) return;
    entry.disk = undefined;
    if (!this.tree.isShown(entry.node)) this.#drop(entry);
  }

  /** The disk of a file for its status: the one in use, or a temporary one. */
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
    this.#hasDroppedErrors ||= entry.node.errors.unseen;
    this.#entries.delete(entry.number);
    this.#byNode.delete(entry.node.nodeid);
  }
}
