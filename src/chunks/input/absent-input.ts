// The input of an image whose source cannot be reached, while a cache file may still answer. It looks for the source again
// and again, and reads from it once it is there.

import { EIO } from '../../constants/errno.js';
import type { Input } from '../contract/coding.js';

/** Milliseconds before the next look, at least and at most: each look doubles them. A read that fails causes one. */
const PAUSE = { least: 1000, most: 32_000 } as const;
/** Reads at the same time, once there is a source. */
const PARALLEL = 8;

/**
 * Looks for the source.
 * @returns it, or `other`: it has another image now. @throws Error while it cannot be reached
 */
export type FindSource = () => Promise<Input | 'other'>;

export class AbsentInput implements Input {
  readonly size: number;
  readonly parallel = PARALLEL;
  readonly #why: string;
  #find: FindSource | undefined;
  #found: Input | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pause: number = PAUSE.least;
  /** When the last look ended; undefined: one is under way. */
  #looked: number | undefined;

  /** @param why it cannot be reached, in one line */
  constructor(size: number, why: string) {
    this.size = size;
    this.#why = why;
  }

  /** Begins to look for the source. */
  look(find: FindSource): void {
    this.#find = find;
    this.#wait();
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#found !== undefined) return this.#found.read(offset, length);
    if (this.#looked !== undefined && performance.now() - this.#looked >= PAUSE.least) void this.#again();
    throw Object.assign(new Error(this.#why), { errno: EIO });
  }

  async close(): Promise<void> {
    this.#end();
    await this.#found?.close();
  }

  #end(): void {
    this.#find = undefined;
    this.#looked = undefined;
    clearTimeout(this.#timer);
  }

  #wait(): void {
    this.#looked = performance.now();
    this.#timer = setTimeout(() => void this.#again(), this.#pause).unref();
    this.#pause = Math.min(2 * this.#pause, PAUSE.most);
  }

  async #again(): Promise<void> {
    clearTimeout(this.#timer);
    this.#looked = undefined;
    const found = await this.#find?.().catch(() => undefined);
    if (this.#find === undefined) {
      // It was closed meanwhile.
      if (found !== undefined && found !== 'other') await found.close();
    } else if (found === undefined) this.#wait();
    else {
      this.#end();
      if (found !== 'other') this.#found = found;
    }
  }
}
