// Chooses restart points among the places that a decoder passes.

import type { RestartPoint } from '../contract/coding.js';

const NONE: readonly RestartPoint[] = [];

/** See the file's head. */
export class PointCollector {
  readonly #spacing: number;
  /** Decoded offset of the last chosen point, or of the start. */
  #last: number;
  /** A point that counts as soon as a byte behind it has been decoded. */
  #candidate: RestartPoint | undefined;
  #chosen: RestartPoint[] = [];

  /**
   * @param start decoded offset at which decoding starts
   * @param spacing least number of decoded bytes between two points
   */
  constructor(start: number, spacing: number) {
    this.#last = start;
    this.#spacing = Math.max(1, spacing);
  }

  /** Offers a place before the byte `out`. Of several at the same `out`, the first counts. */
  offer(at: number, out: number, state?: Uint8Array): void {
    this.#settle(out);
    if (this.#candidate !== undefined || out - this.#last < this.#spacing) return;
    this.#candidate = state === undefined ? { in: at, out } : { in: at, out, state };
  }

  /** The points since the last call. @param out offset of the next decoded byte */
  take(out: number): readonly RestartPoint[] {
    this.#settle(out);
    if (this.#chosen.length === 0) return NONE;
    const chosen = this.#chosen;
    this.#chosen = [];
    return chosen;
  }

  #settle(out: number): void {
    if (this.#candidate === undefined || out === this.#candidate.out) return;
    this.#last = this.#candidate.out;
    this.#chosen.push(this.#candidate);
    this.#candidate = undefined;
  }
}
