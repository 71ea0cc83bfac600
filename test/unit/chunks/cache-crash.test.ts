import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { adoptFiles } from '../../../src/chunks/cache/cache-file.js';
import { decodeHeader, HEADER, PART, REGION_UNITS } from '../../../src/chunks/cache/cache-index.js';
import { PartReader } from '../../../src/chunks/cache/part-reader.js';
import { lengthOfUnit, UNIT } from '../../../src/chunks/contract/units.js';
import { CrashingDisk, type DiskState, emptyDisk } from '../../support/crashing-disk.js';

/** Three regions; the last unit is short. */
const SIZE = 2 * REGION_UNITS * UNIT + 7 * UNIT + 1234;

/** The units that the histories use: at the edges of the regions. */
const UNITS = [0, 1, 2, 3, 254, 255, 256, 257, 258, 510, 511, 512, 513, 518, 519];

const IDENTITY = { source: '/disk.xz', coding: 'xz', fileSize: 1, version: 'a' };

function randomOf(seed: number): () => number {
  let state = seed + 1;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
}

/** The bytes of a unit after its n-th change, other ones in each block; some versions are zeros. */
function bytesOf(unit: number, version: number): Uint8Array {
  const bytes = new Uint8Array(lengthOfUnit(unit, SIZE));
  if ((unit + version) % 5 === 0) return bytes;
  bytes.fill(1 + ((unit * 7 + version) % 255));
  for (let i = 0; i + 8 <= bytes.length; i += 4096) {
    new DataView(bytes.buffer).setUint32(i, unit * 100_000 + version);
    new DataView(bytes.buffer).setUint32(i + 4, i);
  }
  return bytes;
}

/** A range of a unit: around an edge of its parts, or any other. */
function rangeIn(unit: number, random: () => number): readonly [number, number] {
  const length = lengthOfUnit(unit, SIZE);
  const edge = Math.min(Math.floor(random() * 5) * PART, length - 1);
  const from = Math.max(0, random() < 0.5 ? edge : edge - Math.floor(random() * 3));
  const to = random() < 0.5 ? from + PART : from + 1 + Math.floor(random() * (length - from));
  return [from, Math.min(to, length)];
}

type Versions = Map<number, number>;

interface History {
  readonly disk: CrashingDisk;
  /** The versions of the export when the history begins. */
  readonly before: Versions;
  readonly limit: number | undefined;
  readonly version?: string;
}

const optionsOf = (limit: number | undefined, version = 'a') => ({
  path: 'FILE',
  identity: { ...IDENTITY, version },
  size: SIZE,
  limit,
  quietMs: 0,
  onFailure: (line: string): void => void failures.push(line),
  onLine: (): void => undefined,
});

const failures: string[] = [];

const open = ({ disk, limit, version }: History, onDisk = 0) =>
  adoptFiles(
    { data: disk.file('data'), index: disk.file('index') },
    { size: disk.dataSize, onDisk },
    optionsOf(limit, version),
  );

/** Plays random orders on a cache; checks each read. Ends without closing it. */
async function play(history: History, seed: number, steps: number): Promise<void> {
  const random = randomOf(seed);
  const { disk } = history;
  const now: Versions = new Map(history.before);
  const versionOf = (unit: number): number => now.get(unit) ?? 0;
  const changes: Promise<void>[] = [];
  /** Changes of each unit that are on their way. */
  const changing = new Map<number, number>();
  const add = (unit: number, count: number): void =>
    void changing.set(unit, (changing.get(unit) ?? 0) + count);
  const isChanging = (unit: number): boolean => (changing.get(unit) ?? 0) > 0;
  const file = await open(history);

  const change = async (first: number, count: number): Promise<void> => {
    const units = UNITS.filter((unit) => unit >= first && unit < first + count);
    for (const unit of units) add(unit, 1);
    await file.drop(first, count);
    for (const unit of units) {
      const version = versionOf(unit) + 1;
      now.set(unit, version);
      disk.change(unit, version);
      add(unit, -1);
    }
  };
  const any = (): number => UNITS[Math.floor(random() * UNITS.length)];
  for (let i = 0; i < steps; i++) {
    const unit = any();
    const dice = random();
    if (dice < 0.5) {
      if (!isChanging(unit)) file.write(unit, bytesOf(unit, versionOf(unit)));
    } else if (dice < 0.7) changes.push(change(unit, random() < 0.2 ? 300 : 1));
    else if (dice < 0.8) {
      const version = versionOf(unit);
      const [from, to] = random() < 0.3 ? [0, lengthOfUnit(unit, SIZE)] : rangeIn(unit, random);
      const bytes = await file.read(unit, from, to);
      // While it changes, either bytes are right.
      if (bytes !== undefined && version === versionOf(unit) && !isChanging(unit))
        expect(Buffer.compare(bytes, bytesOf(unit, version).subarray(from, to))).toBe(0);
    } else if (dice < 0.86) await file.flush();
    else if (dice < 0.9) file.saveIndex(new Uint8Array(3000 + i).fill(i));
    else if (dice < 0.93) file.saveTrace(Uint32Array.from([i, unit]));
    else for (let turns = random() * 20; turns > 0; turns--) await setImmediate();
  }
  await Promise.all(changes);
  await file.close();
}

/** Opens what a crash has left, and compares all that it has, by parts and whole. @returns the number of units */
async function check(state: DiskState, now: Versions, version?: string): Promise<number> {
  const file = await open({
    disk: new CrashingDisk(state, () => 0.5),
    before: now,
    limit: undefined,
    version,
  });
  let count = 0;
  const random = randomOf(now.size);
  for (const unit of UNITS) {
    const right = bytesOf(unit, now.get(unit) ?? 0);
    const [from, to] = rangeIn(unit, random);
    const part = await file.read(unit, from, to);
    if (part !== undefined && Buffer.compare(part, right.subarray(from, to)) !== 0)
      throw new Error(`unit ${unit} is wrong between ${from} and ${to}`);
    const bytes = await file.read(unit);
    if (bytes === undefined) continue;
    count++;
    if (Buffer.compare(bytes, right) !== 0) throw new Error(`unit ${unit} is wrong`);
  }
  const { index, trace } = file;
  if (index !== undefined) expect(index.every((byte) => byte === index[0])).toBe(true);
  if (trace !== undefined) expect(trace.length).toBe(2);
  await file.close();
  return count;
}

/** The random number of the cache that a disk has. */
function nonceOf({ index }: DiskState): string {
  const found = decodeHeader(index.read(0, HEADER));
  if (found.kind !== 'header') throw new Error(`no header: ${found.kind}`);
  return found.header.nonce.toString(16).padStart(16, '0');
}

/** A reader of which each system call sees the next of these states of the files, and the last one from then on. */
function readerDuring(states: readonly DiskState[], nonce: string) {
  let calls = 0;
  const next = (): DiskState => states[Math.min(calls++, states.length - 1)];
  const memory = { bytes: new Uint8Array(PART), address: 0 };
  const read = (name: 'data' | 'index', offset: number, length: number): Buffer | undefined => {
    const bytes = Buffer.from(next()[name].read(offset, length));
    return bytes.length === length ? bytes : undefined;
  };
  const fileOf = (name: 'data' | 'index') => ({
    read: (offset: number, length: number) => read(name, offset, length),
    readTo: (address: number, offset: number, length: number): boolean => {
      const bytes = read(name, offset, length);
      if (bytes !== undefined) memory.bytes.set(bytes, address);
      return bytes !== undefined;
    },
  });
  const reader = new PartReader(
    { data: fileOf('data'), index: fileOf('index') },
    { nonce, size: SIZE, offset: 0 },
  );
  return (offset: number, length: number): Uint8Array | undefined => {
    calls = 0;
    const at = reader.read(offset, length, memory, 0);
    return at < 0 ? undefined : memory.bytes.slice(at, at + length);
  };
}

type VersionsOf = (unit: number, before: Versions, after: Versions) => readonly number[];

/**
 * Reads a part of each unit while the operations of a log from `first` on go on, each system call some of them later.
 * @param versionsOf the versions that a unit may have, given those before and after the read
 * @returns how many reads found bytes
 */
function readDuring(
  disk: CrashingDisk,
  first: number,
  nonce: string,
  random: () => number,
  versionsOf: VersionsOf,
): number {
  const later = (count: number): number =>
    Math.min(disk.log.length, count + (random() < 0.5 ? 0 : Math.floor(random() * 30)));
  const [before, after]: Versions[] = [new Map(), new Map()];
  const second = later(first);
  const third = later(second);
  const states = [
    disk.crash(first, 'kill', before),
    disk.crash(second, 'kill', new Map()),
    disk.crash(third, 'kill', after),
  ];
  const read = readerDuring(states, nonce);
  let found = 0;
  for (const unit of UNITS) {
    const length = lengthOfUnit(unit, SIZE);
    const part = Math.floor((random() * length) / PART) * PART;
    const from = part + Math.floor(random() * Math.min(PART, length - part));
    const count = 1 + Math.floor(random() * (Math.min(part + PART, length) - from));
    const bytes = read(unit * UNIT + from, count);
    if (bytes === undefined) continue;
    found++;
    const right = versionsOf(unit, before, after).some(
      (version) => Buffer.compare(bytes, bytesOf(unit, version).subarray(from, from + count)) === 0,
    );
    if (!right)
      throw new Error(`unit ${unit} is wrong at ${from}, read during ${first}, ${second}, ${third}`);
  }
  return found;
}

/** Reads at each moment of a log: see readDuring. */
function readDuringAll(
  disk: CrashingDisk,
  nonce: string,
  random: () => number,
  versionsOf: VersionsOf,
): number {
  let found = 0;
  for (let count = 0; count <= disk.log.length; count++)
    found += readDuring(disk, count, nonce, random, versionsOf);
  return found;
}

/** All versions from one to the other. */
const versionsBetween = (unit: number, before: Versions, after: Versions): readonly number[] => {
  const [from, to] = [before.get(unit) ?? 0, after.get(unit) ?? 0];
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
};

describe('a reader of the cache file beside its chunk server', () => {
  it('finds bytes of the time of its read, whatever is written meanwhile', async () => {
    let found = 0;
    for (let seed = 0; seed < 5; seed++) {
      const random = randomOf(5000 + seed);
      const disk = new CrashingDisk(emptyDisk(), random);
      const limit = seed % 3 === 0 ? 6 * UNIT : undefined;
      await play({ disk, before: new Map(), limit }, seed, 80);
      const nonce = nonceOf(disk.crash(disk.log.length, 'kill', new Map()));
      found += readDuringAll(disk, nonce, random, versionsBetween);
    }
    expect(found).toBeGreaterThan(200);
    expect(failures).toEqual([]);
  });

  it('finds bytes of its own image only, while the cache starts anew with another one', async () => {
    let found = 0;
    for (let seed = 0; seed < 8; seed++) {
      const random = randomOf(7000 + seed);
      const first = new CrashingDisk(emptyDisk(), random);
      await play({ disk: first, before: new Map(), limit: undefined }, seed, 60);
      const before: Versions = new Map();
      const state = first.crash(first.log.length, 'kill', before);
      const nonce = nonceOf(state);
      const others: Versions = new Map(UNITS.map((unit) => [unit, 50]));
      const disk = new CrashingDisk(state, random);
      await play({ disk, before: new Map(others), limit: undefined, version: 'b' }, seed, 40);
      found += readDuringAll(disk, nonce, random, (unit) => [before.get(unit) ?? 0]);
    }
    expect(found).toBeGreaterThan(5);
  });
});

describe('cache file after a crash', () => {
  it.each(['kill', 'power'] as const)('has no wrong byte after any prefix of its writes: %s', async (how) => {
    const disk = new CrashingDisk(emptyDisk(), randomOf(4));
    await play({ disk, before: new Map(), limit: undefined }, 4, 60);
    let units = 0;
    for (let count = 0; count <= disk.log.length; count++) {
      const now: Versions = new Map();
      units = await check(disk.crash(count, how, now), now);
    }
    expect(units).toBeGreaterThan(3);
    expect(failures).toEqual([]);
  });

  it('has no wrong byte after several crashes, with and without a limit', async () => {
    let units = 0;
    for (let seed = 0; seed < 60; seed++) {
      const random = randomOf(1000 + seed);
      let state = emptyDisk();
      let now: Versions = new Map();
      const limit = random() < 0.5 ? undefined : 6 * UNIT;
      for (let session = 0; session < 4; session++) {
        const disk = new CrashingDisk(state, random);
        const history = { disk, before: new Map(now), limit };
        await play(history, seed * 10 + session, 40);
        const after: Versions = new Map(now);
        const count = random() < 0.2 ? disk.log.length : Math.floor(random() * disk.log.length);
        state = disk.crash(count, random() < 0.3 ? 'kill' : 'power', after);
        now = after;
        try {
          units += await check(state, now);
        } catch (error) {
          throw new Error(`seed ${seed}, session ${session}, operation ${count}`, { cause: error });
        }
      }
    }
    expect(units).toBeGreaterThan(200);
    expect(failures).toEqual([]);
  });

  it('has no byte of an earlier image after a crash while it starts anew', async () => {
    for (let seed = 0; seed < 30; seed++) {
      const random = randomOf(seed);
      const first = new CrashingDisk(emptyDisk(), random);
      await play({ disk: first, before: new Map(), limit: undefined }, seed, 30);
      const state = first.crash(first.log.length, 'kill', new Map());
      // The image of version b has other bytes everywhere.
      const others: Versions = new Map(UNITS.map((unit) => [unit, 50]));
      const disk = new CrashingDisk(state, random);
      await play({ disk, before: new Map(others), limit: undefined, version: 'b' }, seed, 20);
      for (let i = 0; i < 10; i++) {
        const now: Versions = new Map(others);
        const count = Math.floor(random() * disk.log.length);
        await check(disk.crash(count, 'power', now), now, 'b');
      }
    }
  });
});
