// A disk in memory for the chunk server's NBD server, as tests want it.
//
// It knows its holes by 4 KiB blocks. A test can change its properties, and delay or fail its operations.

import { randomFillSync } from 'node:crypto';
import type {
  AllocationExtent,
  ChangeFlags,
  DiskBytes,
  DiskConnection,
  DiskProperties,
  ServedDisk,
} from '../../src/chunks/contract/disk.js';

const BLOCK = 4096;

/** The properties, unless a test says otherwise. */
export const PROPERTIES: DiskProperties = {
  size: 1024 * 1024,
  readOnly: false,
  description: undefined,
  blockSizes: { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 },
  canMultiConn: true,
  canFlush: true,
  canFua: true,
  canTrim: true,
  canZero: true,
  canFastZero: true,
  isRotational: false,
};

/** See the file's head. */
export class MemoryDisk implements ServedDisk {
  readonly properties: DiskProperties;
  readonly bytes: Buffer;
  /** Called before each operation, which waits for it, and fails with its rejection. */
  before: (operation: string, offset: number, length: number) => Promise<void> | void = () => undefined;
  /** The operations so far. */
  readonly operations: string[] = [];
  knowsExtents = true;
  /** Reads that are answered without a wait, and are no operation; undefined: those are all others. */
  readNow: (offset: number, length: number) => DiskBytes | undefined = () => undefined;
  connections = 0;
  readonly #holes: Uint8Array;
  readonly #lost: (() => void)[] = [];

  constructor(properties: Partial<DiskProperties> = {}) {
    this.properties = { ...PROPERTIES, ...properties };
    this.bytes = Buffer.alloc(this.properties.size);
    this.#holes = new Uint8Array(Math.ceil(this.properties.size / BLOCK)).fill(1);
  }

  /** Gives the disk random bytes, and no hole. */
  fill(): void {
    randomFillSync(this.bytes);
    this.#holes.fill(0);
  }

  /** Loses the server below. */
  lose(): void {
    for (const listener of this.#lost) listener();
  }

  async connect(): Promise<DiskConnection> {
    this.connections++;
    let isOpen = true;
    return {
      properties: this.properties,
      read: (offset, length) => this.readNow(offset, length) ?? this.#read(offset, length),
      cache: (offset, length) => void this.operations.push(`cache ${offset}+${length}`),
      write: (offset, bytes, flags) => this.#write(offset, bytes, flags),
      zero: (offset, length, flags) => this.#zero('zero', offset, length, flags),
      trim: (offset, length, flags) => this.#zero('trim', offset, length, flags),
      flush: () => this.#begin('flush', 0, 0, {}),
      extents: (offset, length) => (this.knowsExtents ? this.#extents(offset, length) : undefined),
      onLost: (listener) => this.#lost.push(listener),
      close: () => {
        if (!isOpen) throw new Error('a connection was closed twice');
        isOpen = false;
        this.connections--;
      },
    };
  }

  async #begin(name: string, offset: number, length: number, flags: ChangeFlags): Promise<void> {
    const set = Object.entries(flags).flatMap(([flag, isSet]) => (isSet === true ? [flag] : []));
    this.operations.push([name, `${offset}+${length}`, ...set].join(' '));
    await this.before(name, offset, length);
  }

  async #read(offset: number, length: number): Promise<readonly Uint8Array[]> {
    await this.#begin('read', offset, length, {});
    // In parts that end at multiples of 256 KiB, as the units of the chunk server.
    const parts: Uint8Array[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, (Math.floor(at / 262_144) + 1) * 262_144);
      parts.push(this.bytes.subarray(at, end));
      at = end;
    }
    return parts;
  }

  async #write(offset: number, bytes: Uint8Array, flags: ChangeFlags): Promise<void> {
    await this.#begin('write', offset, bytes.length, flags);
    this.bytes.set(bytes, offset);
    this.#holes.fill(0, Math.floor(offset / BLOCK), Math.ceil((offset + bytes.length) / BLOCK));
  }

  async #zero(name: string, offset: number, length: number, flags: ChangeFlags): Promise<void> {
    await this.#begin(name, offset, length, flags);
    this.bytes.fill(0, offset, offset + length);
    if (flags.noHole !== true)
      this.#holes.fill(1, Math.ceil(offset / BLOCK), Math.floor((offset + length) / BLOCK));
  }

  async #extents(offset: number, length: number): Promise<readonly AllocationExtent[]> {
    await this.#begin('extents', offset, length, {});
    const found: { length: number; hole: boolean; zero: boolean }[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, (Math.floor(at / BLOCK) + 1) * BLOCK);
      const hole = this.#holes[Math.floor(at / BLOCK)] === 1;
      const last = found.at(-1);
      if (last?.hole === hole) last.length += end - at;
      else found.push({ length: end - at, hole, zero: hole });
      at = end;
    }
    return found;
  }
}

/** An error of a disk. */
export function diskError(errno: number, message = 'the disk failed'): Error {
  return Object.assign(new Error(message), { errno });
}
