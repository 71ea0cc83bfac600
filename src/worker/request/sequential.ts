// Finds sequential streams among READs, for read-ahead. Pure.

/** Most distance in bytes between a READ and the end of its stream: the kernel's requests overtake one another. */
const SLACK = 128 * 1024;

/** Largest error in bytes of a double for an offset up to 2^63. */
const ROUNDING = 1024;

/** Most streams; a new one replaces the stream that was idle longest. */
const MOST_STREAMS = 32;

/** Segments to read ahead, at first and at most. */
const FIRST_WINDOW = 2;
const WIDEST_WINDOW = 16;

/** One sequential stream. Offsets are doubles: beyond 2^53 they are rounded, within the tolerance. */
export class SequentialStream<Owner> {
  readonly owner: Owner;
  /** Offset in bytes of the expected next READ. */
  next: number;
  /** Number of READs that continued exactly at the end of the last one, plus the first. */
  run = 1;
  /** Segments to read ahead. */
  window = FIRST_WINDOW;
  usedAt: number;

  constructor(owner: Owner, next: number, now: number) {
    this.owner = owner;
    this.next = next;
    this.usedAt = now;
  }

  /** Doubles the window: the reader had to wait. */
  widen(): void {
    this.window = Math.min(this.window * 2, WIDEST_WINDOW);
  }

  /** Halves the window: data read ahead went unused. */
  narrow(): void {
    this.window = Math.max(this.window >> 1, 1);
  }
}

/** The streams on all disks. */
export class SequentialStreams<Owner> {
  readonly #streams: SequentialStream<Owner>[] = [];

  /** The stream that a READ of `length` bytes at `at` continues, or a new one. */
  follow(owner: Owner, at: number, length: number, now: number): SequentialStream<Owner> {
    let oldest = 0;
    for (let i = 0; i < this.#streams.length; i++) {
      const stream = this.#streams[i];
      if (stream.usedAt < this.#streams[oldest].usedAt) oldest = i;
      if (stream.owner !== owner || Math.abs(at - stream.next) > SLACK) continue;
      // Only exact continuations count: random READs come near by chance.
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
