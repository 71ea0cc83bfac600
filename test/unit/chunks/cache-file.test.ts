import { spawn } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type CacheFileOptions, openCacheFile } from '../../../src/chunks/cache/cache-file.js';
import { checksum, HEADER, MAGIC } from '../../../src/chunks/cache/cache-index.js';
import { exportCache, maintainCache } from '../../../src/chunks/cache/directory.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import { lengthOfUnit, UNIT } from '../../../src/chunks/contract/units.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';

const SIZE = 40 * UNIT + 1000;
const IDENTITY = { source: 'https://host/disk.xz', coding: 'xz', fileSize: 5, version: 'a' };

interface Said {
  readonly failures: string[];
  readonly lines: string[];
}

function optionsFor(path: string, more: Partial<CacheFileOptions> = {}): CacheFileOptions & Said {
  const failures: string[] = [];
  const lines: string[] = [];
  return {
    path,
    identity: IDENTITY,
    size: SIZE,
    limit: undefined,
    onFailure: (line) => void failures.push(line),
    onLine: (line) => void lines.push(line),
    failures,
    lines,
    ...more,
  };
}

/** An open cache, which closes when the test ends. */
async function opened(scope: Scope, options: CacheFileOptions & Said): Promise<UnitFile> {
  const file = await openCacheFile(options);
  if (file === undefined) throw new Error(options.failures.join());
  scope.add(() => file.close());
  return file;
}

const bytesOf = (unit: number, size = SIZE): Uint8Array =>
  new Uint8Array(lengthOfUnit(unit, size)).fill(unit + 1);

const isRight = async (file: UnitFile, unit: number): Promise<boolean> =>
  bytesOf(unit).every(
    (
      (bytes) => (byte, i) =>
        bytes?.[i] === byte
    )(await file.read(unit)),
  );

const blocksOf = (path: string): number => statSync(path).blocks * 512;

/** A small file system, which goes when the test ends. */
async function smallDisk(scope: Scope, size: string): Promise<string> {
  const path = scope.path('small');
  mkdirSync(path);
  scope.add(() => runProgram('umount', path));
  await runProgram('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path);
  return path;
}

describe('cache file', () => {
  it('keeps units, the saved index and the trace for the next process', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    for (const unit of [0, 7, 40]) first.write(unit, bytesOf(unit));
    first.saveIndex(new Uint8Array(5_000_000).fill(9));
    first.saveTrace(Uint32Array.of(7, 0, 40));
    expect(await isRight(first, 7)).toBe(true);
    await first.close();
    const second = await opened(scope, optionsFor(path));
    expect([second.count, second.isComplete, second.has(7), second.has(8)]).toEqual([3, false, true, false]);
    expect(await isRight(second, 40)).toBe(true);
    expect(second.index?.length).toBe(5_000_000);
    expect(second.trace).toEqual(Uint32Array.of(7, 0, 40));
    expect([statSync(path).mode & 0o777, statSync(`${path}.index`).mode & 0o777]).toEqual([0o600, 0o600]);
    expect(blocksOf(path)).toBeLessThan(4 * UNIT);
  });

  it('is the image when it is complete, with holes for zeros', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const file = await opened(scope, optionsFor(path));
    const zeros = new Uint8Array(UNIT);
    for (let unit = 0; unit <= 40; unit++) file.write(unit, unit % 2 === 0 ? bytesOf(unit) : zeros);
    await file.flush();
    expect(file.isComplete).toBe(true);
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(SIZE);
    for (let unit = 0; unit <= 40; unit++)
      expect(
        bytes
          .subarray(unit * UNIT, unit * UNIT + lengthOfUnit(unit, SIZE))
          .equals(unit % 2 === 0 ? bytesOf(unit) : zeros),
      ).toBe(true);
    expect(blocksOf(path)).toBeLessThanOrEqual(21 * UNIT);
  });

  it('drops units at once, and forgets their bytes', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const file = await opened(scope, optionsFor(path));
    for (let unit = 0; unit < 10; unit++) file.write(unit, bytesOf(unit));
    await file.flush();
    const dropped = file.drop(2, 6);
    expect([file.count, file.has(2), file.has(7), file.has(8)]).toEqual([4, false, false, true]);
    await dropped;
    await file.flush();
    expect(blocksOf(path)).toBeLessThanOrEqual(4 * UNIT);
    await file.close();
    expect((await opened(scope, optionsFor(path))).count).toBe(4);
  });

  it('stays within its limit: the least recently used units go', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const file = await opened(scope, optionsFor(path, { limit: 8 * UNIT }));
    for (let unit = 0; unit < 8; unit++) file.write(unit, bytesOf(unit));
    await file.flush();
    await file.read(0);
    for (let unit = 20; unit < 24; unit++) file.write(unit, bytesOf(unit));
    await file.flush();
    expect([0, 1, 20, 23].map((unit) => file.has(unit))).toEqual([true, false, true, true]);
    expect(blocksOf(path)).toBeLessThanOrEqual(8 * UNIT);
    await file.close();
    const smaller = await opened(scope, optionsFor(path, { limit: 2 * UNIT }));
    await smaller.flush();
    expect(smaller.count).toBe(2);
    expect(blocksOf(path)).toBeLessThanOrEqual(2 * UNIT);
  });

  it('treats bytes that somebody has changed as absent, and says so once', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    for (const unit of [3, 4]) first.write(unit, bytesOf(unit));
    await first.close();
    const fd = openSync(path, 'r+');
    for (const unit of [3, 4]) writeSync(fd, Buffer.from([99]), 0, 1, unit * UNIT + 5);
    closeSync(fd);
    const options = optionsFor(path);
    const second = await opened(scope, options);
    expect([await second.read(3), await second.read(4), second.count]).toEqual([undefined, undefined, 0]);
    expect(options.lines).toEqual([expect.stringContaining(`is damaged at offset ${3 * UNIT}`)]);
    second.write(3, bytesOf(3));
    await second.flush();
    expect(await isRight(second, 3)).toBe(true);
  });

  it('starts anew for an index of an older version, and keeps later units', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    first.write(3, bytesOf(3));
    await first.close();
    const index = readFileSync(`${path}.index`);
    for (const at of [0, HEADER / 2]) {
      const slot = index.subarray(at, at + HEADER / 2);
      if (!slot.subarray(0, MAGIC.length).equals(MAGIC)) continue;
      slot.writeUInt32LE(1, MAGIC.length);
      slot.writeUInt32LE(checksum(slot.subarray(0, -4)), slot.length - 4);
    }
    writeFileSync(`${path}.index`, index);
    const options = optionsFor(path);
    const second = await opened(scope, options);
    expect([second.count, second.has(3)]).toEqual([0, false]);
    expect(options.lines).toEqual([`the cache ${path} is of an older nbdfuse: it is started anew`]);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
    second.write(4, bytesOf(4));
    await second.close();
    const again = optionsFor(path);
    const third = await opened(scope, again);
    expect([third.count, await isRight(third, 4), again.lines]).toEqual([1, true, []]);
  });

  it.each([
    [{ identity: { ...IDENTITY, version: 'b' } }, 'its source has changed'],
    [{ identity: { ...IDENTITY, source: '/other' } }, 'another source'],
    [{ identity: { ...IDENTITY, coding: 'gzip' } }, 'another format or part'],
    [{ identity: { ...IDENTITY, fileSize: 6 } }, 'its source has another size now'],
    [{ size: SIZE + UNIT }, 'another size'],
  ])('starts anew for another image: %j', async (change, why) => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    first.write(3, bytesOf(3));
    await first.close();
    const options = optionsFor(path, change);
    const second = await opened(scope, options);
    expect(second.count).toBe(0);
    expect(options.lines).toEqual([`the cache ${path} is of another image (${why}): it is started anew`]);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
    expect(statSync(path).size).toBe(options.size);
  });

  it('starts anew when FILE is gone', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    first.write(3, bytesOf(3));
    await first.close();
    truncateSync(path, 0);
    expect((await opened(scope, optionsFor(path))).count).toBe(0);
  });

  it.each<[string, (path: string) => void, RegExp]>([
    [
      'a file of the user',
      (path) => writeFileSync(path, 'mine'),
      /not empty, and there is no .*index; nbdfuse does/,
    ],
    [
      'a file of the user beside an empty index',
      (path) => {
        writeFileSync(path, 'mine');
        writeFileSync(`${path}.index`, '');
      },
      /not empty, and .*index is;/,
    ],
    ['a foreign index', (path) => writeFileSync(`${path}.index`, 'mine'), /is not the index of a cache/],
    ['a directory', (path) => mkdirSync(path), /it is a directory/],
    ['a symbolic link', (path) => symlinkSync('/dev/null', path), /it is a symbolic link/],
    ['a link as index', (path) => symlinkSync('/etc/passwd', `${path}.index`), /index .* is a symbolic link/],
  ])('refuses %s, and leaves it alone', async (_, make, error) => {
    const path = createScope().path('cache');
    make(path);
    const before = statSync(path, { throwIfNoEntry: false })?.size;
    await expect(openCacheFile(optionsFor(path))).rejects.toThrow(error);
    expect(statSync(path, { throwIfNoEntry: false })?.size).toBe(before);
  });

  it('refuses a FILE that was exchanged for another one', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    await (await opened(scope, optionsFor(path))).close();
    writeFileSync(path, 'mine');
    await expect(openCacheFile(optionsFor(path))).rejects.toThrow(/not the file that .*index is about/);
    expect(readFileSync(path, 'utf8')).toBe('mine');
  });

  it('refuses a directory that does not exist, or makes it for its owner only', async () => {
    const scope = createScope();
    const path = scope.path('a', 'b', 'cache');
    await expect(openCacheFile(optionsFor(path))).rejects.toThrow(/no such file or directory/);
    await opened(scope, optionsFor(path, { createParents: true }));
    expect(statSync(scope.path('a', 'b')).mode & 0o777).toBe(0o700);
  });

  it('belongs to one user at a time', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const first = await opened(scope, optionsFor(path));
    first.write(1, bytesOf(1));
    const options = optionsFor(path);
    expect(await openCacheFile(options)).toBeUndefined();
    expect(options.failures).toEqual([`another process uses the cache ${path}; going on without it`]);
    await first.close();
    expect((await opened(scope, optionsFor(path))).count).toBe(1);
  });

  it('stops adding when the disk is full, and still has the rest', async () => {
    const scope = createScope();
    const path = `${await smallDisk(scope, '2m')}/cache`;
    const options = optionsFor(path);
    const file = await opened(scope, options);
    for (let unit = 0; unit < 20; unit++) file.write(unit, bytesOf(unit));
    await file.flush();
    expect([...options.lines, ...options.failures]).toEqual([
      `the disk of the cache ${path} is full (no space left on device): nothing more is kept in it`,
    ]);
    expect(file.count).toBeGreaterThan(2);
    expect(file.count).toBeLessThan(8);
    expect(await isRight(file, 0)).toBe(true);
    const { count } = file;
    await file.close();
    expect((await opened(scope, optionsFor(path))).count).toBe(count);
  });

  it('goes on without the cache when there is no room for its index', async () => {
    const scope = createScope();
    const path = `${await smallDisk(scope, '4k')}/cache`;
    const options = optionsFor(path);
    expect(await openCacheFile(options)).toBeUndefined();
    expect(options.failures).toEqual([
      `cannot open the cache ${path}: no space left on device; going on without it`,
    ]);
  });

  it('has no wrong byte after its process was killed', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    // Only the units of the first region change: those of the second survive a kill.
    const size = 300 * UNIT;
    const module = new URL('../../../dist/chunks/cache/cache-file.js', import.meta.url).href;
    const program = `
      const { openCacheFile } = await import(${JSON.stringify(module)});
      const say = (line) => console.error(line);
      const file = await openCacheFile({ path: process.argv[1], identity: ${JSON.stringify(IDENTITY)},
        size: ${size}, limit: ${24 * UNIT}, onFailure: say, onLine: say });
      const versions = new Map();
      for (let i = 0; ; i++) {
        const unit = Math.floor(Math.random() * 20) + (i % 2) * 256;
        if (unit < 256 && Math.random() < 0.4) {
          await file.drop(unit, 1);
          versions.set(unit, (versions.get(unit) ?? 0) + 1);
          process.stdout.write(unit + ' ' + versions.get(unit) + '\\n');
        }
        file.write(unit, new Uint8Array(${UNIT}).fill(1 + unit % 256 + 50 * (versions.get(unit) ?? 0)));
        if (i % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
        if (i % 40 === 0) await file.flush();
      }`;
    let kept = 0;
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: scope.environment,
      });
      const ended = new Promise<void>((resolve) => void child.once('close', () => resolve()));
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.length > 300 + 100 * round) child.kill('SIGKILL');
      });
      await ended;
      const versions = new Map<number, number>();
      for (const [, unit, version] of text.matchAll(/^(\d+) (\d+)$/gm))
        versions.set(Number(unit), Number(version));
      const options = optionsFor(path, { size });
      const file = await opened(scope, options);
      for (let unit = 0; unit < 276; unit++) {
        const bytes = await file.read(unit);
        if (bytes === undefined) continue;
        kept++;
        const value = (1 + (unit % 256) + 50 * (versions.get(unit) ?? 0)) % 256;
        expect(bytes.every((byte) => byte === value)).toBe(true);
      }
      // The next round begins with the first versions.
      await file.drop(0, 256);
      await file.close();
      expect(options.failures).toEqual([]);
    }
    expect(kept).toBeGreaterThan(0);
  });
});

it('cache file: a check and a copy of a large image look at its kept units only', {
  timeout: 20_000,
}, async () => {
  const scope = createScope();
  // Ext4 has no files of this size.
  const directory = mkdtempSync('/dev/shm/nbdfuse-test-');
  scope.add(() => rmSync(directory, { recursive: true }));
  const path = `${directory}/cache`;
  const size = 2 ** 48;
  const file = await opened(scope, optionsFor(path, { size }));
  for (const unit of [0, 2 ** 30 - 1]) file.write(unit, bytesOf(unit % 7, size));
  await file.close();
  expect(await maintainCache(path, { isChecked: true })).toEqual({ units: 2, damaged: [] });
  expect(await exportCache(path, `${directory}/copy`, true)).toBe((2 * UNIT) / size);
});
