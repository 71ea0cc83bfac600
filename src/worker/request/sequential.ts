// Which READs follow one another: the streams that are worth reading ahead of. Pure.
//
// Used by readahead.ts. Positions are doubles: beyond 2^53 they are rounded, which is within the slack.

/** Bytes by which a READ may miss the place where its stream goes on: the kernel's requests overtake one another. */
const SLACK = 128 * 1024;

/** Bytes by which a double may be wrong about an offset of up to 2^63. */
const ROUNDING = 1024;

/** Streams that are remembered; the one that was idle longest makes room. */
const MOST_STREAMS = 32;

/** Segments to be ahead by, at first and at most. */
const FIRST_WINDOW = 2;
const WIDEST_WINDOW = 16;

/** One reader that goes on and on. */
export class SequentialStream<Owner> {
  readonly owner: Owner;
  /** Where it goes on, in bytes. */
  next: number;
  /** READs that went on exactly where the last one ended, and the first. */
  run = 1;
  /** Segments to be ahead by. */
  window = FIRST_WINDOW;
  usedAt: number;

  constructor(owner: Owner, next: number, now: number) {
    this.owner = owner;
    this.next = next;
    this.usedAt = now;
  }

  /** It had to wait for what was not there yet. */
  widen(): void {
    this.window = Math.min(this.window * 2, WIDEST_WINDOW);
  }

  /** What was read ahead of it was not wanted. */
  narrow(): void {
    this.window = Math.max(this.window >> 1, 1);
  }
}

/** The streams under way on all disks. */
export class SequentialStreams<Owner> {
  readonly #streams: SequentialStream<Owner>[] = [];

  /** The stream to which a READ of `length` bytes at `at` belongs, maybe as its first. */
  follow(owner: Owner, at: number, length: number, now: number): SequentialStream<Owner> {
    let oldest = 0;
    for (let i = 0; i < this.#streams.length; i++) {
      const stream = this.#streams[i];
      if (stream.usedAt < this.#streams[oldest].usedAt) oldest = i;
      if (stream.owner !== owner || Math.abs(at - stream.next) > SLACK) continue;
      // Near is not enough to begin with: who reads here and there comes near sometimes.
      if (Math.abs(at - stream.next) <= ROUNDING) stream.run++;
      stream.next = Math.max(stream.next, at + length);
      stream.usedAt = now;
      return stream;
    }
    const stream = new SequentialStream(owner, at + length, now);
    if (this.#streams.length < MOST_STREAMS) this.#streams.push(stream);
    else this.#streams[oldest] = stream;
    return stream;
  }
}
