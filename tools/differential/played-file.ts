// A file on which operations are played: descriptors, at most one mapping, and the result of each operation.
//
// Used by actor.ts for the file under test and for the plain file beside it. Offsets, lengths and results are
// those of the system calls; a result below 0 is an errno, negated.

import { type Operation, pagesOf, type Range } from './operations.js';
import * as system from './system.js';

const SEEK_END = 2;

const FALLOCATE_MODES = {
  punch: system.FALLOC_FL_PUNCH_HOLE | system.FALLOC_FL_KEEP_SIZE,
  zero: system.FALLOC_FL_ZERO_RANGE,
  zeroKeep: system.FALLOC_FL_ZERO_RANGE | system.FALLOC_FL_KEEP_SIZE,
} as const;

/** POSIX_FADV_NORMAL to POSIX_FADV_NOREUSE; DONTNEED drops pages. */
const ADVICES = [0, 1, 2, 3, 4, 4, 4, 5] as const;

interface Mapping extends Range {
  readonly address: number;
}

/** See the file's head. */
export class PlayedFile {
  readonly #path: string;
  readonly #flags: readonly number[];
  readonly #canZero: boolean;
  readonly #descriptors: number[];
  #mapping: Mapping | undefined;

  /**
   * Opens the file once for each of `flags`.
   * @param canZero whether there is ZERO_RANGE; otherwise PUNCH_HOLE replaces it
   * @throws Error
   */
  constructor(path: string, flags: readonly number[], canZero: boolean) {
    this.#path = path;
    this.#flags = flags;
    this.#canZero = canZero;
    this.#descriptors = flags.map((more) => this.#open(more));
  }

  /** Whether the mapping that an operation needs exists: it may not if other operations were omitted. */
  allows(operation: Operation): boolean {
    if (operation.kind !== 'load' && operation.kind !== 'store' && operation.kind !== 'msync') return true;
    const { at, length } = operation;
    const mapping = this.#mapping;
    return mapping !== undefined && at >= mapping.at && at + length <= mapping.at + mapping.length;
  }

  /**
   * Does an operation and returns its result: a number of bytes, 0, or a negated errno.
   * @param buffer the data to write, or the place for the data to read
   */
  play(operation: Operation, buffer: Uint8Array): number {
    switch (operation.kind) {
      case 'map':
        this.#unmap();
        return this.#map(operation);
      case 'unmap':
        return this.#unmap();
      case 'load':
        system.load(this.#mapped(operation.at), buffer, operation.length);
        return operation.length;
      case 'store':
        system.store(this.#mapped(operation.at), buffer, operation.length);
        return operation.length;
      case 'msync': {
        const { at, length } = pagesOf(operation);
        return system.sync(this.#mapped(at), length);
      }
      default:
        return this.#playOn(operation, this.#descriptors[operation.descriptor], buffer);
    }
  }

  /** Closes everything. @throws Error if the kernel reports an error that no earlier call has reported */
  close(): void {
    const results = [this.#unmap(), ...this.#descriptors.map(system.closeFile)];
    const failure = results.find((result) => result < 0);
    if (failure !== undefined) throw new Error(`closing ${this.#path}: errno ${-failure}`);
  }

  /** The next data or hole from an offset on. */
  seek(descriptor: number, at: number, whence: number): number {
    return system.seek(this.#descriptors[descriptor], at, whence);
  }

  #open(more: number): number {
    const descriptor = system.openFile(this.#path, system.O_RDWR | more);
    if (descriptor < 0) throw new Error(`opening ${this.#path}: errno ${-descriptor}`);
    return descriptor;
  }

  #playOn(
    operation: Exclude<Operation, { kind: 'map' | 'unmap' | 'load' | 'store' | 'msync' }>,
    fd: number,
    buffer: Uint8Array,
  ): number {
    switch (operation.kind) {
      case 'read':
        return system.readAll(fd, buffer, operation.length, operation.at);
      case 'write':
        return system.writeAll(fd, buffer, operation.length, operation.at);
      case 'copy':
        return system.copyRange(fd, operation.at, operation.to, operation.length);
      case 'fsync':
        return system.fsync(fd);
      case 'fdatasync':
        return system.fdatasync(fd);
      case 'syncRange':
        return system.syncRange(fd, operation.at, operation.length);
      case 'advise': {
        const advice = ADVICES[operation.length % ADVICES.length];
        return system.advise(fd, operation.at, operation.length, advice);
      }
      case 'reopen':
        return this.#reopen(operation.descriptor);
      case 'stat':
        return system.seek(fd, 0, SEEK_END);
      case 'seek':
        return 0;
      default:
        return system.allocate(fd, this.#mode(operation.kind), operation.at, operation.length);
    }
  }

  #mode(kind: keyof typeof FALLOCATE_MODES): number {
    const isZero = kind === 'zero' || kind === 'zeroKeep';
    return FALLOCATE_MODES[isZero && !this.#canZero ? 'punch' : kind];
  }

  #reopen(index: number): number {
    const closed = system.closeFile(this.#descriptors[index]);
    this.#descriptors[index] = this.#open(this.#flags[index]);
    return closed;
  }

  #map(range: Range): number {
    const pages = pagesOf(range);
    const address = system.map(this.#descriptors[0], pages.at, pages.length);
    if (address < 0) return address;
    this.#mapping = { ...pages, address };
    return 0;
  }

  #unmap(): number {
    const mapping = this.#mapping;
    this.#mapping = undefined;
    return mapping === undefined ? 0 : system.unmap(mapping.address, mapping.length);
  }

  #mapped(at: number): number {
    if (this.#mapping === undefined) throw new Error('nothing is mapped');
    return this.#mapping.address + at - this.#mapping.at;
  }
}
