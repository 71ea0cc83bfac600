// Reads FILE.index when a cache is opened.

import type { SavedIndex } from '../contract/cache.js';
import {
  checksum,
  decodePage,
  emptyRecords,
  type Header,
  layoutOf,
  PAGE,
  type Section,
} from './cache-index.js';
import { type Region, Regions } from './regions.js';
import type { StoredFile } from './stored-file.js';

/** Pages that are read at once: 1 MiB. */
const PAGES_AT_ONCE = (1024 * 1024) / PAGE;

/** The content of FILE.index. */
export interface Loaded {
  readonly regions: Regions;
  /** Regions with an intent; their records count as absent. */
  readonly intents: readonly number[];
  /** Regions whose page must be written. */
  readonly dirty: readonly Region[];
  readonly index: SavedIndex | undefined;
  readonly trace: Uint32Array | undefined;
}

/** The places of bytes that are not 0. Not by a list of all: an image may have millions of regions. */
function placesOf(bytes: Uint8Array): number[] {
  const places: number[] = [];
  for (let at = 0; at < bytes.length; at++) if (bytes[at] !== 0) places.push(at);
  return places;
}

/**
 * Reads FILE.index.
 * @param isOrdered whether the order of use matters
 * @throws the errors of the disk
 */
export async function loadStore(
  file: Pick<StoredFile, 'read'>,
  header: Header,
  isOrdered: boolean,
): Promise<Loaded> {
  const layout = layoutOf(header.size);
  const regions = new Regions(header.size, isOrdered);
  const used = await file.read(layout.used, layout.regions);
  const marks = await file.read(layout.intents, layout.regions);
  const numbers = placesOf(used);
  const dirty: Region[] = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i + 1;
    while (end < numbers.length && end - i < PAGES_AT_ONCE && numbers[end] === numbers[end - 1] + 1) end++;
    const pages = await file.read(layout.pages + numbers[i] * PAGE, (end - i) * PAGE);
    for (const number of numbers.slice(i, end)) {
      const page = pages.subarray((number - numbers[i]) * PAGE, (number - numbers[i] + 1) * PAGE);
      const isStale = (marks[number] ?? 1) !== 0;
      const count = regions.unitsIn(number);
      const records = isStale ? emptyRecords() : decodePage(header.nonce, number, page, count);
      const region = regions.load(number, records);
      if (isStale) dirty.push(region);
    }
    i = end;
  }
  regions.sortByUse();
  const trace = await readSection(file, header.trace);
  return {
    regions,
    intents: placesOf(marks),
    dirty,
    index: await readSection(file, header.index),
    trace: trace === undefined ? undefined : traceFrom(trace, regions.units),
  };
}

/** A section, if its checksum is right. */
async function readSection(
  file: Pick<StoredFile, 'read'>,
  { offset, length, sum }: Section,
): Promise<Uint8Array | undefined> {
  if (length === 0) return undefined;
  const bytes = await file.read(offset, length);
  return bytes.length === length && checksum(bytes) === sum ? bytes : undefined;
}

function traceFrom(bytes: Uint8Array, units: number): Uint32Array {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const trace = Uint32Array.from({ length: Math.floor(bytes.length / 4) }, (_, i) =>
    buffer.readUInt32LE(i * 4),
  );
  return trace.filter((unit) => unit < units);
}
