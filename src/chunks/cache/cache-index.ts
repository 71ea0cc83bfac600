// The format of FILE.index, which says what a cache file holds. Pure.
//
//     0        header, slot 0         16 KiB   the slot with the higher sequence number and a right checksum counts
//     16 KiB   header, slot 1         16 KiB
//     32 KiB   used regions           one byte each: not 0: the region's page of records may have been written
//     then     regions with intents   one byte each: not 0: the region's records may be older than the image
//     then     pages of records       8 KiB for each region of 256 units, 32 bytes for each unit
//     then     sections               the saved index and the trace, where the header says
//
// Each part begins at a multiple of 4 KiB. Numbers are little-endian. A record has a checksum over its unit and the
// nonce of the header, so that no record of an earlier image, or of another place, is ever valid. It lies within one
// sector of 512 bytes, and has a checksum for each part of the unit, so that a read checks only the parts that it needs.

import * as zlib from 'node:zlib';
import { crc32 } from '../../partitions/crc32.js';
import type { Identity } from '../contract/cache.js';
import { MAX_IMAGE, UNIT, unitsOf } from '../contract/units.js';

/** Units in a region: 64 MiB of the image. */
export const REGION_UNITS = 256;
/** Bytes of a unit that have a checksum of their own. The last part of a unit may be shorter. */
export const PART = 64 * 1024;
/** Parts of a unit. */
export const PARTS = UNIT / PART;
/** Bytes of a record: checksums of the parts, time of last use, flags, place, checksum, and unused ones. */
export const RECORD = 32;
const SUMS = PARTS * 4;
/** Bytes of a record before its checksum. */
const CHECKED = SUMS + 8;
/** Bytes of the records of a region. */
export const PAGE = REGION_UNITS * RECORD;
/** Each part of FILE.index begins at a multiple of this. */
const ALIGNMENT = 4096;
/** Bytes of a slot of the header. */
const SLOT = 16 * 1024;
/** Bytes of both slots. */
export const HEADER = 2 * SLOT;

/** The first bytes of a slot. Alone they say that FILE.index is that of a cache, which has not begun. */
export const MAGIC = Buffer.from('nbdfuse cache\r\n\x1a', 'latin1');
const VERSION = 2;
const FIXED = 100;
const CHECKSUM = 4;
/** Maximum bytes of an identity as JSON. */
const MAX_IDENTITY = SLOT - FIXED - CHECKSUM;
/** Maximum bytes of a section: larger ones are damage. */
const MAX_SECTION = 1024 ** 3;

/** The unit is in FILE. */
export const STORED = 1;
/** All its bytes are 0, and FILE has a hole there. */
export const ZERO = 2;

/** Since Node 20.15; it is 40 times as fast. */
const fastChecksum: ((bytes: Uint8Array, before?: number) => number) | undefined = zlib.crc32;

/** Whether a checksum of a part takes less time than a request to another process. */
export const isChecksumFast = fastChecksum !== undefined;

/** The checksum of a unit and of all else: CRC-32. `before` is that of the bytes before. */
export const checksum = fastChecksum ?? crc32;

/** The name of the index of a cache file. */
export const indexPath = (path: string): string => `${path}.index`;

/** A part of FILE.index whose place the header has; length 0: there is none. */
export interface Section {
  readonly offset: number;
  readonly length: number;
  readonly sum: number;
}

export const NO_SECTION: Section = { offset: 0, length: 0, sum: 0 };

/** The header of FILE.index. */
export interface Header {
  readonly sequence: number;
  /** A random number of this cache: made when it starts anew. */
  readonly nonce: bigint;
  readonly identity: Identity;
  /** Bytes of the image. */
  readonly size: number;
  readonly index: Section;
  readonly trace: Section;
}

/** Where the parts of FILE.index are, in bytes. */
export interface Layout {
  readonly regions: number;
  readonly used: number;
  readonly intents: number;
  readonly pages: number;
  readonly sections: number;
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** The layout for an image of `size` bytes. */
export function layoutOf(size: number): Layout {
  const regions = Math.ceil(unitsOf(size) / REGION_UNITS);
  const intents = HEADER + aligned(regions);
  const pages = intents + aligned(regions);
  return { regions, used: HEADER, intents, pages, sections: pages + regions * PAGE };
}

/** Where a section of `length` bytes fits without touching `taken`. */
export function placeFor(length: number, start: number, taken: readonly Section[]): number {
  const inOrder = taken.filter((one) => one.length > 0).sort((a, b) => a.offset - b.offset);
  let at = start;
  for (const one of inOrder) {
    if (at + length <= one.offset) break;
    at = Math.max(at, aligned(one.offset + one.length));
  }
  return at;
}

const jsonOf = ({ source, coding, fileSize, version }: Identity): Buffer =>
  Buffer.from(JSON.stringify({ source, coding, fileSize, version }));

/** Whether an identity fits the header. */
export const fits = (identity: Identity): boolean => jsonOf(identity).length <= MAX_IDENTITY;

/** The bytes of a slot. */
export function encodeHeader(header: Header): Uint8Array {
  const slot = Buffer.alloc(SLOT);
  const json = jsonOf(header.identity);
  MAGIC.copy(slot);
  slot.writeUInt32LE(VERSION, 16);
  slot.writeUInt32LE(UNIT, 20);
  slot.writeBigUInt64LE(BigInt(header.sequence), 24);
  slot.writeBigUInt64LE(header.nonce, 32);
  slot.writeBigUInt64LE(BigInt(header.size), 40);
  for (const [i, { offset, length, sum }] of [header.index, header.trace].entries()) {
    slot.writeBigUInt64LE(BigInt(offset), 48 + i * 24);
    slot.writeBigUInt64LE(BigInt(length), 56 + i * 24);
    slot.writeUInt32LE(sum, 64 + i * 24);
  }
  slot.writeUInt32LE(json.length, 96);
  json.copy(slot, FIXED);
  slot.writeUInt32LE(checksum(slot.subarray(0, SLOT - CHECKSUM)), SLOT - CHECKSUM);
  return slot;
}

/** The meaning of the first bytes of FILE.index. */
export type FoundHeader =
  | { readonly kind: 'header'; readonly header: Header }
  /** Nothing but zeros, or nothing at all: a cache that was never begun. */
  | { readonly kind: 'empty' }
  /** Of a cache, but no slot is right. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'older' }
  | { readonly kind: 'newer' }
  | { readonly kind: 'foreign' };

function identityFrom(json: string): Identity | undefined {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value !== 'object' || value === null) return undefined;
    const { source, coding, fileSize, version } = value as Record<string, unknown>;
    const isValid = typeof source === 'string' && typeof coding === 'string' && typeof version === 'string';
    return isValid && typeof fileSize === 'number' ? { source, coding, fileSize, version } : undefined;
  } catch {
    return undefined;
  }
}

function sectionFrom(slot: Buffer, at: number): Section {
  const offset = Number(slot.readBigUInt64LE(at));
  const length = Number(slot.readBigUInt64LE(at + 8));
  return { offset, length, sum: slot.readUInt32LE(at + 16) };
}

/** The header in a slot; undefined when it is of another version, or its checksum or a field is wrong. */
function decodeSlot(slot: Buffer): Header | undefined {
  if (slot.readUInt32LE(16) !== VERSION) return undefined;
  if (slot.readUInt32LE(SLOT - CHECKSUM) !== checksum(slot.subarray(0, SLOT - CHECKSUM))) return undefined;
  const jsonLength = slot.readUInt32LE(96);
  const size = Number(slot.readBigUInt64LE(40));
  if (slot.readUInt32LE(20) !== UNIT || jsonLength > MAX_IDENTITY || size > MAX_IMAGE) return undefined;
  const identity = identityFrom(slot.toString('utf8', FIXED, FIXED + jsonLength));
  if (identity === undefined) return undefined;
  const [index, trace] = [sectionFrom(slot, 48), sectionFrom(slot, 72)];
  const { sections } = layoutOf(size);
  const isWrong = ({ offset, length }: Section): boolean =>
    length > 0 && (offset < sections || !Number.isSafeInteger(offset) || length > MAX_SECTION);
  return {
    sequence: Number(slot.readBigUInt64LE(24)),
    nonce: slot.readBigUInt64LE(32),
    identity,
    size,
    index: isWrong(index) ? NO_SECTION : index,
    trace: isWrong(trace) ? NO_SECTION : trace,
  };
}

/** Reads the header. @param bytes the first HEADER bytes of FILE.index, or all if it has fewer */
export function decodeHeader(bytes: Uint8Array): FoundHeader {
  const both = Buffer.alloc(HEADER);
  both.set(bytes);
  if (both.every((byte) => byte === 0)) return { kind: 'empty' };
  const slots = [both.subarray(0, SLOT), both.subarray(SLOT, HEADER)];
  const ours = slots.filter((slot) => slot.subarray(0, MAGIC.length).equals(MAGIC));
  if (ours.length === 0) return { kind: 'foreign' };
  if (ours.some((slot) => slot.readUInt32LE(16) > VERSION)) return { kind: 'newer' };
  const headers = ours.map(decodeSlot).filter((header) => header !== undefined);
  if (headers.length === 0) {
    const versions = ours.map((slot) => slot.readUInt32LE(16));
    return { kind: versions.some((version) => version > 0 && version < VERSION) ? 'older' : 'damaged' };
  }
  return { kind: 'header', header: headers.reduce((a, b) => (b.sequence > a.sequence ? b : a)) };
}

/** The slot that a header goes to. */
export const slotOffset = ({ sequence }: Header): number => (sequence % 2) * SLOT;

/** The records of a region, by the unit's place in it. */
export interface Records {
  /** STORED and ZERO; 0: absent. */
  readonly flags: Uint8Array;
  /** Checksums of the parts of the units: those of a unit in a row. */
  readonly sums: Uint32Array;
  /** Times of last use, in seconds since 1970. */
  readonly stamps: Uint32Array;
}

export function emptyRecords(): Records {
  return {
    flags: new Uint8Array(REGION_UNITS),
    sums: new Uint32Array(REGION_UNITS * PARTS),
    stamps: new Uint32Array(REGION_UNITS),
  };
}

/** The checksums of the parts of a unit. */
export function sumsOf(bytes: Uint8Array): Uint32Array {
  const sums = new Uint32Array(PARTS);
  for (let part = 0; part * PART < bytes.length; part++)
    sums[part] = checksum(bytes.subarray(part * PART, (part + 1) * PART));
  return sums;
}

/** The part of the checksum that all records of a region share. */
export function saltOf(nonce: bigint, region: number): number {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64LE(nonce);
  bytes.writeUInt32LE(region, 8);
  return checksum(bytes);
}

/** The page of a region. */
export function encodePage(nonce: bigint, region: number, records: Records): Uint8Array {
  const page = Buffer.alloc(PAGE);
  const before = saltOf(nonce, region);
  for (let i = 0; i < REGION_UNITS; i++) {
    if (records.flags[i] === 0) continue;
    const at = i * RECORD;
    for (let part = 0; part < PARTS; part++)
      page.writeUInt32LE(records.sums[i * PARTS + part], at + part * 4);
    page.writeUInt32LE(records.stamps[i], at + SUMS);
    page.writeUInt16LE(records.flags[i], at + SUMS + 4);
    page.writeUInt16LE(i, at + SUMS + 6);
    page.writeUInt32LE(checksum(page.subarray(at, at + CHECKED), before), at + CHECKED);
  }
  return page;
}

/** Whether a record is that of a stored unit. @param salt of its region @param place of the unit in its region */
export function isRecord(record: Buffer, salt: number, place: number): boolean {
  const flags = record.readUInt16LE(SUMS + 4);
  if ((flags & STORED) === 0 || flags > (STORED | ZERO) || record.readUInt16LE(SUMS + 6) !== place)
    return false;
  return record.readUInt32LE(CHECKED) === checksum(record.subarray(0, CHECKED), salt);
}

/** The checksum of a part of a unit, in its record. */
export const sumIn = (record: Buffer, part: number): number => record.readUInt32LE(part * 4);

/** Reads a page, whose wrong records count as absent. @param count units of the region */
export function decodePage(nonce: bigint, region: number, bytes: Uint8Array, count: number): Records {
  const records = emptyRecords();
  const page = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const before = saltOf(nonce, region);
  for (let i = 0; i < count && (i + 1) * RECORD <= page.length; i++) {
    const at = i * RECORD;
    const record = page.subarray(at, at + RECORD);
    if (!isRecord(record, before, i)) continue;
    records.flags[i] = record.readUInt16LE(SUMS + 4);
    for (let part = 0; part < PARTS; part++) records.sums[i * PARTS + part] = sumIn(record, part);
    records.stamps[i] = page.readUInt32LE(at + SUMS);
  }
  return records;
}
