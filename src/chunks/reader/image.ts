// Opens an image: finds its size and its chunks, by an index or by a pass over its file, and makes its reader.

import { wholeSizes } from '../../partitions/claimed-sizes.js';
import type { MemoryCache } from '../cache/memory.js';
import type { UnitFile } from '../contract/cache.js';
import { type Coding, type Input, type MemberCheck, type PointIndex, START } from '../contract/coding.js';
import { lengthOfUnit, UNIT } from '../contract/units.js';
import type { PackedCoding } from '../decode/decoder.js';
import { findPoints, type NamedPoints } from '../points/points.js';
import { PointMap, plainMap } from '../schedule/chunk-map.js';
import { WHOLE } from '../schedule/tasks.js';
import { CHECKED, CodedSource } from './coded-source.js';
import type { DecodePool, StartPool } from './decode-pool.js';
import type { FromThread } from './messages.js';
import { Pass, type PassResult } from './pass.js';
import { PlainSource } from './plain-source.js';
import { Reader } from './reader.js';
import { decodeIndex, encodeIndex } from './saved-index.js';
import { agrees, canHold } from './size-hint.js';
import { Store } from './store.js';

/** Restart points of one image: more would need too much memory. */
const MOST_POINTS = 1024;
/** Decoded bytes between two restart points, at least and at most. */
const SPACING = { least: 1024 * 1024, most: 64 * 1024 * 1024 } as const;
/** Decoded bytes of one compressed byte, as a guess. */
const RATIO = 4;
/** Units behind the damage of a file whose size is not known: reads of them fail. */
const BEHIND_DAMAGE = 1;

export interface ImageOptions {
  readonly input: Input;
  readonly coding: Coding;
  /** The check of a member of a zip archive. */
  readonly check?: MemberCheck | undefined;
  readonly memory: MemoryCache;
  /** Opens the cache file once the size of the image is known; undefined: there is none. */
  readonly openFile: ((size: number | undefined) => Promise<UnitFile | undefined>) | undefined;
  /** Starts the threads that decode. */
  readonly startPool: StartPool;
  readonly onLine: (line: string) => void;
  /** Called when the pass has come further. */
  readonly onProgress: (done: number, all: number) => void;
}

/** An open image. */
export interface Image {
  readonly reader: Reader;
  readonly file: UnitFile | undefined;
  /** The most tasks for units that nobody waits for. */
  readonly parallel: number;
  close(): Promise<void>;
}

type CodedOptions = ImageOptions & { readonly coding: PackedCoding };

/** The source, reader and threads of a compressed image while they are put together. */
class Opening {
  readonly #options: CodedOptions;
  #file: UnitFile | undefined;
  #pool: DecodePool | undefined;
  #source: CodedSource | undefined;
  #pass: Pass | undefined;
  #reader: Reader | undefined;
  /** Points that the file names, and that may be wrong. */
  #unproven: NamedPoints | undefined;

  constructor(options: CodedOptions) {
    this.#options = options;
  }

  async open(): Promise<Image> {
    const index = await this.#knownIndex();
    if (index !== undefined) return this.#coded(index);
    return this.#passed();
  }

  /** The index that the cache file has, or that the file itself has. */
  async #knownIndex(): Promise<PointIndex | undefined> {
    const { coding, input, openFile, onLine } = this.#options;
    this.#file = await openFile?.(undefined);
    const saved = this.#file?.index;
    const known = saved === undefined ? undefined : decodeIndex(saved);
    if (known !== undefined) return known;
    const found = await findPoints(coding, input);
    if (found?.warning !== undefined) onLine(found.warning);
    if (found?.isProven !== true) {
      this.#unproven = found;
      return undefined;
    }
    await this.#keepIndex(found);
    return found;
  }

  async #keepIndex(index: PointIndex): Promise<void> {
    await this.#openFile(index.size);
    this.#file?.saveIndex(encodeIndex(index));
  }

  async #openFile(size: number): Promise<void> {
    this.#file ??= await this.#options.openFile?.(size);
  }

  #coded(index: PointIndex): Image {
    const { coding, input, memory, onLine } = this.#options;
    const pool = this.#startPool();
    const { size, points } = index;
    // Of a pass that began before the size was known, and may contradict it.
    for (const [unit, bytes] of [...memory.entries()])
      if (bytes.length !== lengthOfUnit(unit, size)) memory.drop(unit, 1);
    const reader = new Reader({
      map: new PointMap(size, points.length === 0 ? [START] : points),
      store: new Store(memory, this.#file),
      source: (events) => {
        this.#source = new CodedSource({ coding, input, size, pool, events });
        return this.#source;
      },
      mostAhead: ahead(memory),
      onLine,
    });
    this.#reader = reader;
    const close = async (): Promise<void> => {
      this.#pass?.close();
      await pool.close();
      await this.#file?.close();
    };
    return { reader, file: this.#file, parallel: pool.threads, close };
  }

  #startPool(): DecodePool {
    const take = (message: FromThread): void => {
      if (this.#pass?.take(message) !== true) this.#source?.take(message);
    };
    this.#pool ??= this.#options.startPool(take);
    return this.#pool;
  }

  /** Decodes the whole file once. The image is there before its end if the disk and the file agree on its size. */
  async #passed(): Promise<Image> {
    const { coding, check, input, memory, onProgress } = this.#options;
    const spacing = Math.min(
      SPACING.most,
      Math.max(SPACING.least, Math.ceil((input.size * RATIO) / MOST_POINTS)),
    );
    const tail = await input.read(Math.max(0, input.size - 4), Math.min(4, input.size));
    const head = await input.read(0, Math.min(18, input.size));
    const early = new Map<number, Uint8Array>();
    const hinted = new Promise<number | NamedPoints>((resolve) => {
      const pass = new Pass({
        coding,
        check,
        input,
        pool: this.#startPool(),
        spacing,
        made: (unit, bytes) => {
          const claims = (unit === 0 ? wholeSizes(bytes) : []).filter((one) =>
            canHold(coding, input.size, one),
          );
          const named = this.#unproven;
          if (named !== undefined && claims.includes(named.size)) resolve(named);
          const said = (one: number): boolean => one === check?.size || agrees(coding, one, head, tail);
          const sure = claims.find((one) => isEarly(coding, one) && said(one));
          if (sure !== undefined) resolve(sure);
          if (this.#reader !== undefined) this.#reader.deliver(unit, bytes);
          else memory.put(unit, bytes, false);
          // Until the cache file is open.
          if (sure !== undefined || (this.#reader === undefined && early.size > 0)) early.set(unit, bytes);
          onProgress(pass.done, input.size);
        },
        found: (point) => {
          const map = this.#reader?.map;
          if (map instanceof PointMap) map.add(point);
        },
        fetched: (bytes) => {
          if (this.#reader !== undefined) this.#reader.counts.fetched += bytes;
        },
      });
      this.#pass = pass;
      pass.start();
    });
    const pass = this.#pass;
    if (pass === undefined) throw new Error('there is no pass');
    const first = await Promise.race([pass.result, hinted]);
    if (typeof first === 'number') return this.#duringPass(pass, first, early);
    return 'isProven' in first ? this.#insteadOfPass(pass, first) : this.#afterPass(first);
  }

  /** The image by points that the file names, and on whose size the disk agrees. */
  async #insteadOfPass(pass: Pass, index: NamedPoints): Promise<Image> {
    pass.close();
    this.#pass = undefined;
    await this.#keepIndex(index);
    return this.#coded(index);
  }

  /** The image after a pass that nobody could use before its end. */
  async #afterPass(result: PassResult): Promise<Image> {
    const { onLine } = this.#options;
    this.#pass = undefined;
    const { size, points, warning, damage } = result;
    if (warning !== undefined) onLine(warning);
    const whole = damage === undefined ? size : (Math.ceil(size / UNIT) + BEHIND_DAMAGE) * UNIT;
    await this.#openFile(whole);
    const image = this.#coded({ size: whole, points });
    this.#saveRecent();
    if (damage === undefined) this.#file?.saveIndex(encodeIndex({ size, points }));
    else image.reader.fail(damage.unit, image.reader.map.units, damage.message, damage.partial);
    return image;
  }

  /** Keeps the units that memory has of a pass during which there was no cache file. */
  #saveRecent(): void {
    const { memory } = this.#options;
    for (const [unit, bytes] of memory.entries())
      if (this.#file?.has(unit) === false) this.#file.write(unit, bytes);
  }

  /** The image while the pass goes on. */
  async #duringPass(pass: Pass, size: number, early: ReadonlyMap<number, Uint8Array>): Promise<Image> {
    pass.relax();
    await this.#openFile(size);
    const image = this.#coded({ size, points: pass.points });
    const { reader } = image;
    for (const [unit, bytes] of early) reader.deliver(unit, bytes);
    reader.pass = pass;
    void this.#finish(pass, reader, size);
    return image;
  }

  async #finish(pass: Pass, reader: Reader, size: number): Promise<void> {
    const { onLine, onProgress, input } = this.#options;
    const result = await pass.result.catch(() => undefined);
    // Where the pass has failed, each reader's decoder goes on from the last point.
    reader.pass = undefined;
    this.#pass = undefined;
    reader.resume();
    onProgress(input.size, input.size);
    if (result === undefined) return;
    if (result.warning !== undefined) onLine(result.warning);
    const { damage } = result;
    if (damage !== undefined) reader.fail(damage.unit, reader.map.units, damage.message, damage.partial);
    else if (result.size === size) this.#file?.saveIndex(encodeIndex(result));
    // Of a larger image, all reads fail: a copy that looks whole would have lost its end.
    else
      reader.fail(
        result.size > size ? 0 : Math.floor(result.size / UNIT),
        reader.map.units,
        `the file has ${result.size} bytes of an image that says that it has ${size}`,
        undefined,
      );
  }
}

/** Whether an image is of use before its end: the units of a small one wait for the check of its frame. */
const isEarly = (coding: Coding, size: number): boolean => !CHECKED.includes(coding) || size > WHOLE * UNIT;

/** The most units to read ahead. */
const ahead = (memory: MemoryCache): number => Math.floor(memory.limit / 4 / UNIT);

async function openPlain({ input, openFile, memory, onLine }: ImageOptions): Promise<Image> {
  const file = await openFile?.(input.size);
  // The others are for units that somebody waits for.
  const guesses = Math.ceil(input.parallel / 2);
  const reader = new Reader({
    map: plainMap(input.size),
    store: new Store(memory, file),
    source: (events) => new PlainSource(input, events),
    mostAhead: Math.min(ahead(memory), guesses),
    onLine,
  });
  const close = async (): Promise<void> => {
    await file?.close();
  };
  return { reader, file, parallel: guesses, close };
}

/** Opens an image. @throws DecodeError, ReadError and the errors of the input */
export function openImage(options: ImageOptions): Promise<Image> {
  const { coding } = options;
  return coding === 'plain' ? openPlain(options) : new Opening({ ...options, coding }).open();
}
