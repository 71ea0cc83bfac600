// How long a server takes for a READ at its best: what tells a far one from a busy one. Pure.

/** READs of which the quickest counts. */
const SAMPLES = 16;

/** Milliseconds that the quickest READ takes, from which on a server is far. */
const FAR = 0.8;

/** See the file's head. */
export class Latency {
  /** Milliseconds of the quickest of the last READs; 0 as long as nothing is known. */
  lowest = 0;
  #best = Number.POSITIVE_INFINITY;
  #count = 0;

  /** Whether its way is what a READ waits for. */
  get far(): boolean {
    return this.lowest >= FAR;
  }

  /** One READ took `milliseconds`. */
  sample(milliseconds: number): void {
    if (milliseconds < this.#best) this.#best = milliseconds;
    if (this.lowest === 0 || milliseconds < this.lowest) this.lowest = milliseconds;
    if (++this.#count < SAMPLES) return;
    this.lowest = this.#best;
    this.#best = Number.POSITIVE_INFINITY;
    this.#count = 0;
  }
}
