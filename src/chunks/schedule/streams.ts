// Tells readers in order from others, and how far to read ahead of them. Pure.

/** The number of readers that are followed at the same time. */
const STREAMS = 16;
/** Units behind the last one that still count as the next: readers skip holes, and requests overtake each other. */
const SKIP = 8;
/** A reader is read ahead for from this unit on. */
const STEADY = 3;

interface Stream {
  /** The unit that comes next. */
  next: number;
  /** Units in order so far. */
  run: number;
  used: number;
}

/** The readers of a disk. */
export class Streams {
  readonly #streams: Stream[] = [];
  #clock = 0;

  /**
   * Notes a request for a unit.
   * @returns the number of units in order up to it: 1 for a reader that is new or jumps
   */
  note(unit: number): number {
    this.#clock += 1;
    const stream = this.#streams.find(({ next }) => unit >= next - SKIP && unit < next + SKIP);
    if (stream === undefined) {
      this.#add({ next: unit + 1, run: 1, used: this.#clock });
      return 1;
    }
    stream.used = this.#clock;
    if (unit >= stream.next) {
      stream.run += 1;
      stream.next = unit + 1;
    }
    return stream.run;
  }

  #add(stream: Stream): void {
    if (this.#streams.length < STREAMS) {
      this.#streams.push(stream);
      return;
    }
    const oldest = this.#streams.reduce(
      (least, one, i) => (one.used < this.#streams[least].used ? i : least),
      0,
    );
    this.#streams[oldest] = stream;
  }
}

/** Units to have ready ahead of a reader that has asked for `run` units in order; at most `most`. */
export function unitsAhead(run: number, most: number): number {
  return run < STEADY ? 0 : Math.min(most, run * 2);
}
