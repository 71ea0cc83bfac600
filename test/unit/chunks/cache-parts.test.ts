// Reads of parts of a unit from a cache file: each part has a checksum of its own.

import { closeSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openCacheFile } from '../../../src/chunks/cache/cache-file.js';
import {
  decodePage,
  emptyRecords,
  encodePage,
  PAGE,
  PART,
  REGION_UNITS,
  STORED,
  sumsOf,
} from '../../../src/chunks/cache/cache-index.js';
import { maintainCache } from '../../../src/chunks/cache/directory.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import { lengthOfUnit, UNIT } from '../../../src/chunks/contract/units.js';
import { createScope, type Scope } from '../../support/cleanup.js';

/** The last unit has a whole part and a short one. */
const LAST = 2;
const SIZE = LAST * UNIT + PART + 1000;

const lines: string[] = [];

async function opened(scope: Scope, path: string, size = SIZE): Promise<UnitFile> {
  const file = await openCacheFile({
    path,
    identity: { source: '/disk.xz', coding: 'xz', fileSize: 5, version: 'a' },
    size,
    limit: undefined,
    onFailure: (line) => void lines.push(line),
    onLine: (line) => void lines.push(line),
  });
  if (file === undefined) throw new Error(lines.join());
  scope.add(() => file.close());
  return file;
}

/** Bytes that differ from those of all other places. */
function bytesOf(unit: number): Buffer {
  const bytes = Buffer.alloc(lengthOfUnit(unit, SIZE));
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(unit * UNIT + at + 1, at);
  return bytes;
}

/** A closed cache file that has all units. */
async function complete(scope: Scope): Promise<string> {
  lines.length = 0;
  const path = scope.path('cache');
  const file = await opened(scope, path);
  for (let unit = 0; unit <= LAST; unit++) file.write(unit, bytesOf(unit));
  await file.close();
  return path;
}

/** Changes one byte of FILE. */
function damage(path: string, offset: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0] ^= 0x40;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}

const isRight = async (file: UnitFile, unit: number, from: number, to: number): Promise<boolean> => {
  const bytes = await file.read(unit, from, to);
  return bytes !== undefined && bytesOf(unit).subarray(from, to).equals(bytes);
};

describe('cache file: parts of a unit', () => {
  it.each([
    ['the first byte', 1, 2 * PART, 2 * PART, 3 * PART],
    ['a byte within', 1, 2 * PART + 5000, 2 * PART, 3 * PART],
    ['the last byte', 1, 3 * PART - 1, 2 * PART, 3 * PART],
    ['the last byte of the image', LAST, PART + 999, PART, PART + 1000],
    ['the first byte of a short part', LAST, PART, PART, PART + 1000],
    ['the last byte before a short part', LAST, PART - 1, 0, PART],
  ])('answers right parts, never a damaged one: %s', async (_, unit, at, from, to) => {
    const scope = createScope();
    const path = await complete(scope);
    damage(path, unit * UNIT + at);
    const file = await opened(scope, path);
    const length = lengthOfUnit(unit, SIZE);
    if (from > 0) expect(await isRight(file, unit, 0, from)).toBe(true);
    if (from > 0) expect(await isRight(file, unit, from - 1, from)).toBe(true);
    if (to < length) expect(await isRight(file, unit, to, length)).toBe(true);
    if (to < length) expect(await isRight(file, unit, to, to + 1)).toBe(true);
    expect(lines).toEqual([]);
    // Any byte of the damaged part, also a right one.
    expect(await file.read(unit, to - 1, to)).toBeUndefined();
    expect(lines).toEqual([expect.stringContaining(`is damaged at offset ${unit * UNIT}`)]);
    expect([file.has(unit), file.count]).toEqual([false, LAST]);
    expect(await file.read(unit, from > 0 ? 0 : to, from > 0 ? from : length)).toBeUndefined();
    file.write(unit, bytesOf(unit));
    await file.flush();
    expect(await isRight(file, unit, from, to)).toBe(true);
    await file.close();
    expect(await isRight(await opened(scope, path), unit, 0, length)).toBe(true);
  });

  it.each([
    ['before', 2 * PART - 4096, 2 * PART],
    ['behind', 2 * PART, 2 * PART + 4096],
    ['across', 2 * PART - 1, 2 * PART + 1],
    ['across two', PART - 1, 2 * PART + 1],
    ['all', 0, UNIT],
  ])('has the right bytes at an edge of its parts: %s', async (_, from, to) => {
    const scope = createScope();
    const file = await opened(scope, await complete(scope));
    expect(await isRight(file, 0, from, to)).toBe(true);
    expect(await isRight(file, 1, from, to)).toBe(true);
  });

  it('refuses a range with a damaged part at either end', async () => {
    const scope = createScope();
    const path = await complete(scope);
    for (const [unit, part] of [
      [0, 1],
      [1, 2],
    ])
      damage(path, unit * UNIT + part * PART + 9);
    const file = await opened(scope, path);
    expect(await file.read(0, 2 * PART - 1, 2 * PART + 1)).toBeUndefined();
    expect(await file.read(1, 2 * PART - 1, 2 * PART + 1)).toBeUndefined();
    expect(file.count).toBe(1);
  });

  it('has no bytes that FILE has lost at its end', async () => {
    const scope = createScope();
    const path = await complete(scope);
    const file = await opened(scope, path);
    truncateSync(path, SIZE - 1);
    expect(await isRight(file, LAST, 0, PART)).toBe(true);
    expect(await file.read(LAST, PART, PART + 1)).toBeUndefined();
    truncateSync(path, UNIT + PART);
    expect(await isRight(file, 1, 0, PART)).toBe(true);
    expect(await file.read(1, PART, PART + 1)).toBeUndefined();
  });

  it('has a record for each unit of each region, beside the saved index and the trace', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const size = (2 * REGION_UNITS + 3) * UNIT;
    const units = [0, 127, 128, REGION_UNITS - 1, REGION_UNITS, 2 * REGION_UNITS - 1, 2 * REGION_UNITS + 2];
    const file = await opened(scope, path, size);
    for (const unit of units) file.write(unit, new Uint8Array(UNIT).fill(unit + 1));
    file.saveIndex(new Uint8Array(20_000).fill(9));
    file.saveTrace(Uint32Array.from(units));
    await file.flush();
    file.saveIndex(new Uint8Array(20_000).fill(8));
    await file.close();
    const again = await opened(scope, path, size);
    expect([...again.units()].map(({ unit }) => unit)).toEqual(units);
    for (const unit of units) expect((await again.read(unit, PART, PART + 1))?.[0]).toBe((unit + 1) % 256);
    expect([again.index?.length, again.index?.[19_999], again.trace]).toEqual([
      20_000,
      8,
      Uint32Array.from(units),
    ]);
  });

  it('has no record of which a bit is wrong, or which is of another place or cache', () => {
    const records = emptyRecords();
    const place = 5;
    records.flags[place] = STORED;
    records.stamps[place] = 7;
    records.sums.set(sumsOf(bytesOf(0)), (place * UNIT) / PART);
    const page = encodePage(1n, 3, records);
    const sizeOfRecord = PAGE / REGION_UNITS;
    const has = (bytes: Uint8Array, nonce = 1n, region = 3): boolean =>
      decodePage(nonce, region, bytes, REGION_UNITS).flags.some((flags) => flags !== 0);
    expect([has(page), has(page, 2n), has(page, 1n, 4)]).toEqual([true, false, false]);
    expect(decodePage(1n, 3, page, REGION_UNITS)).toEqual(records);
    for (let bit = 0; bit < sizeOfRecord * 8; bit++) {
      const changed = Uint8Array.from(page);
      changed[place * sizeOfRecord + (bit >> 3)] ^= 1 << (bit & 7);
      const isUnused = bit >= (sizeOfRecord - 4) * 8;
      expect(has(changed), `bit ${bit}`).toBe(isUnused);
    }
  });

  it('is checked in all its parts by verify', async () => {
    const scope = createScope();
    const path = await complete(scope);
    damage(path, UNIT - 1);
    damage(path, SIZE - 1);
    expect(await maintainCache(path, { isChecked: true })).toEqual({
      units: LAST + 1,
      damaged: [0, LAST * UNIT],
    });
  });
});
