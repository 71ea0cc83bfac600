// The work of the chunk server for an image beside answering reads: prefetching, the trace, and its status.

import type { MemoryCache } from '../cache/memory.js';
import { readTraceFile, writeTraceFile } from '../cache/trace-file.js';
import type { UnitFile } from '../contract/cache.js';
import type { ChunkStatus } from '../contract/status.js';
import { lengthOfUnit, UNIT } from '../contract/units.js';
import { BACKGROUND } from '../schedule/tasks.js';
import { textOf } from './errors.js';
import type { Image } from './image.js';
import { type Room, startPrefetch } from './prefetch.js';
import type { Reader } from './reader.js';
import { Trace } from './trace.js';

export interface WorkOptions {
  readonly image: Image;
  readonly memory: MemoryCache;
  /** Fetch all of the image. */
  readonly prefetch: { readonly rate: number | undefined } | undefined;
  /** The file for the trace; undefined: the cache file has it, if there is one. */
  readonly trace: string | undefined;
  /** The source cannot be reached: fetching what nobody waits for would only fail, and look for it again and again. */
  readonly isAway?: boolean;
  readonly onChange: () => void;
  /** A line for the user. */
  readonly onLine: (line: string) => void;
}

/** The part of the memory that units may fill which nobody has asked for. */
const GUESSES = 2;

const FULL_MEMORY = 'more does not fit the memory for the image';
const FULL_CACHE = 'the cache has its maximum size';

/** The units of an image in order, without those that cannot be decoded. */
function* unitsToFetch(reader: Reader): Generator<number, undefined> {
  for (let unit = 0; unit < reader.map.units; ) {
    const end = reader.failedEnd(unit);
    if (end === undefined) yield unit;
    unit = end ?? unit + 1;
  }
}

export class Work {
  readonly #options: WorkOptions;
  #trace: Trace | undefined;
  #stopPrefetch: (() => void) | undefined;
  /** Why prefetching has ended before its end. */
  #stopped: string | undefined;

  private constructor(options: WorkOptions) {
    this.#options = options;
  }

  /** @throws TraceFileError when the file for the trace has other bytes; system errors */
  static async start(options: WorkOptions): Promise<Work> {
    const work = new Work(options);
    await work.#startTrace();
    if (options.isAway !== true) work.#fetch();
    return work;
  }

  /** The source, which was away at the start, can be reached. */
  sourceIsBack(): void {
    this.#fetch();
  }

  /** The state of the image. */
  get status(): Omit<ChunkStatus, 'file' | 'indexing'> {
    const { image, memory, prefetch } = this.#options;
    const { hits, misses, fetched } = image.reader.counts;
    return {
      size: image.reader.map.size,
      memory: { used: memory.used, limit: memory.limit },
      prefetch: prefetch === undefined ? undefined : this.#progress(),
      hits,
      misses,
      fetched,
    };
  }

  /** Saves the trace, and ends the rest. */
  async stop(): Promise<void> {
    this.#stopPrefetch?.();
    const { image, trace } = this.#options;
    const order = this.#trace?.order;
    this.#trace?.stop();
    if (order === undefined || order.length === 0) return;
    if (trace === undefined) image.file?.saveTrace(order);
    else await this.#saveTrace(trace, order);
  }

  async #saveTrace(path: string, order: Uint32Array): Promise<void> {
    try {
      await writeTraceFile(path, order);
    } catch (error) {
      this.#options.onLine(`cannot save the trace: ${textOf(error)}`);
    }
  }

  #progress(): NonNullable<ChunkStatus['prefetch']> {
    return { ...this.#amount(), stopped: this.#stopped };
  }

  /** Bytes of the image that are there, and all. */
  #amount(): { readonly done: number; readonly all: number } {
    const { image, memory } = this.#options;
    const { reader, file } = image;
    const { size, units } = reader.map;
    if (file?.isComplete === true) return { done: size, all: size };
    if (file !== undefined) return { done: Math.min(size, file.count * UNIT), all: size };
    let done = reader.failedBytes;
    for (const [unit] of memory.entries())
      if (unit < units && reader.failedEnd(unit) === undefined) done += lengthOfUnit(unit, size);
    return { done, all: size };
  }

  async #startTrace(): Promise<void> {
    const { image, trace: path } = this.#options;
    const { reader, file } = image;
    if (path === undefined && file === undefined) return;
    const trace = new Trace(path === undefined ? file?.trace : await readTraceFile(path));
    this.#trace = trace;
    reader.onDemand = (unit) => trace.note(unit);
  }

  /** Fetches what nobody waits for. */
  #fetch(): void {
    const { image, memory, prefetch } = this.#options;
    const { reader, file, parallel } = image;
    const most = Math.floor((file === undefined ? memory.limit / GUESSES : file.limit) / UNIT);
    this.#trace?.replay(reader, parallel, most, () => (file?.refusal === undefined ? 'yes' : 'no'));
    if (prefetch !== undefined) this.#startPrefetch(prefetch.rate);
  }

  #startPrefetch(rate: number | undefined): void {
    const { image, onChange } = this.#options;
    const { reader, file, parallel } = image;
    const roomFor = (bytes: number): Room => this.#roomFor(bytes);
    const units = unitsToFetch(reader);
    const onEnd = (isFull: boolean): void => {
      if (isFull) this.#stop();
      onChange();
    };
    this.#stopPrefetch = startPrefetch({
      reader,
      priority: BACKGROUND,
      units,
      rate,
      parallel,
      file,
      roomFor,
      onEnd,
    });
  }

  /** Fetched units must stay to be of use: none goes for another one. */
  #roomFor(bytes: number): Room {
    const { image, memory } = this.#options;
    const { reader, file } = image;
    if (file === undefined) return memory.used < memory.limit / GUESSES ? 'yes' : 'no';
    if (file.refusal !== undefined) return 'no';
    // The last unit may be shorter than the others.
    if (bytes <= file.free || file.limit >= reader.map.size) return 'yes';
    return file.isWriting ? 'later' : 'no';
  }

  #stop(): void {
    const { image, onLine } = this.#options;
    const { file } = image;
    this.#stopped = file === undefined ? FULL_MEMORY : (file.refusal ?? FULL_CACHE);
    const { done, all } = this.#amount();
    onLine(`prefetching ends with ${Math.floor((100 * done) / all)} % of the image: ${this.#stopped}`);
  }
}

/** The cache file's part of the status. */
export function fileStatus(
  file: UnitFile | undefined,
  path: string | undefined,
  limit: number | undefined,
): ChunkStatus['file'] {
  if (file === undefined || path === undefined) return undefined;
  return { path, used: file.count * UNIT, limit, complete: file.isComplete };
}
