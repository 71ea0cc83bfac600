// Reads bytes of a cache file while another process, its chunk server, writes it.
//
// Invariant: the bytes that `read` finds were those of the image at a moment of the call. A kill of the chunk server would
// leave all that it has written so far, and the files after a kill are right: see
// docs/internals/decisions/0032-cache-file.md and 0037-reads-of-the-cache-file.md.
// So `read` does what the next mount would do, in this order, and believes nothing that it has read before: the intent
// of the region, the record, the bytes. A change of the image sets the intent before it begins, so that a record which
// is read after a clear intent promises the bytes of that moment or of a later one. Whatever else happens to the files
// meanwhile (room made, a new image, another program that cuts them short) leaves no bytes with the checksum of the record.

import type { KeptImage } from '../contract/status.js';
import { lengthOfUnit, UNIT } from '../contract/units.js';
import {
  checksum,
  isRecord,
  type Layout,
  layoutOf,
  PAGE,
  PART,
  RECORD,
  REGION_UNITS,
  saltOf,
  sumIn,
} from './cache-index.js';

/** A file whose bytes are read where that takes no wait: ReadNow. */
export interface FileNow {
  read(offset: number, length: number): Buffer | undefined;
  readTo(address: number, offset: number, length: number): boolean;
}

/** Memory of the caller. */
export interface PartMemory {
  readonly bytes: Uint8Array;
  /** Of its first byte. */
  readonly address: number;
}

/** FILE and FILE.index. */
export interface PartFiles {
  readonly data: FileNow;
  readonly index: FileNow;
}

/** See the file's head. */
export class PartReader {
  readonly #files: PartFiles;
  readonly #nonce: bigint;
  readonly #layout: Layout;
  /** Bytes of the image. */
  readonly #size: number;
  /** Bytes of the image before the disk. */
  readonly #offset: number;
  /** The region of the last read, and the salt of its records. */
  #region = -1;
  #salt = 0;

  constructor(files: PartFiles, { nonce, size, offset }: KeptImage) {
    this.#files = files;
    this.#nonce = BigInt(`0x${nonce}`);
    this.#layout = layoutOf(size);
    this.#size = size;
    this.#offset = offset;
  }

  /** The unit of the image with the byte of the disk at `offset`. */
  unitOf(offset: number): number {
    return Math.floor((this.#offset + offset) / UNIT);
  }

  /**
   * Reads the part with the bytes of the disk from `offset` on, at least one, to byte `start` of `memory`, which has
   * room for PART bytes.
   * @returns where in `memory` the byte at `offset` is; -1: they are in several parts, not in memory, or not kept
   */
  read(offset: number, length: number, memory: PartMemory, start: number): number {
    const unit = this.unitOf(offset);
    const from = this.#offset + offset - unit * UNIT;
    const part = Math.floor(from / PART);
    const inPart = from - part * PART;
    const partLength = Math.min(PART, lengthOfUnit(unit, this.#size) - part * PART);
    if (inPart + length > partLength) return -1;
    const record = this.#recordOf(unit);
    if (record === undefined) return -1;
    const sum = sumIn(record, part);
    if (!this.#files.data.readTo(memory.address + start, unit * UNIT + part * PART, partLength)) return -1;
    return checksum(memory.bytes.subarray(start, start + partLength)) === sum ? start + inPart : -1;
  }

  /** The record of a unit, if the unit is stored and nobody changes its region. It is valid until the next call. */
  #recordOf(unit: number): Buffer | undefined {
    const region = Math.floor(unit / REGION_UNITS);
    const place = unit % REGION_UNITS;
    const { index } = this.#files;
    if (index.read(this.#layout.intents + region, 1)?.[0] !== 0) return undefined;
    const record = index.read(this.#layout.pages + region * PAGE + place * RECORD, RECORD);
    if (record === undefined) return undefined;
    if (region !== this.#region) {
      this.#salt = saltOf(this.#nonce, region);
      this.#region = region;
    }
    return isRecord(record, this.#salt, place) ? record : undefined;
  }
}
