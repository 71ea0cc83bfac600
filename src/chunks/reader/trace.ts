// The order of the first requests for units, recorded for the next mount.

import { TRACE } from '../schedule/tasks.js';
import { type Room, startPrefetch } from './prefetch.js';
import type { Reader } from './reader.js';

/** Most units of a trace: 16 GiB. */
const MOST_UNITS = 65_536;
/** Milliseconds that are recorded, and replayed. */
const TIME = 5 * 60_000;
/** Demands after which a replay is judged. */
const TRIAL = 64;
/** The part of the demands that a good replay had foreseen. */
const ENOUGH = 0.25;

/** Records a trace, and replays the last one. */
export class Trace {
  readonly #asked = new Set<number>();
  readonly #end = performance.now() + TIME;
  readonly #foreseen: ReadonlySet<number>;
  #demands = 0;
  #right = 0;
  #stop: (() => void) | undefined;

  constructor(last: Uint32Array | undefined) {
    this.#foreseen = new Set(last);
  }

  /** The units in the order of their first requests. */
  get order(): Uint32Array {
    return Uint32Array.from(this.#asked);
  }

  note(unit: number): void {
    if (performance.now() > this.#end) {
      this.#stop?.();
      return;
    }
    if (this.#asked.size < MOST_UNITS) this.#asked.add(unit);
    this.#judge(unit);
  }

  /** Fetches the units that the last mount requested first. @param most the most units */
  replay(reader: Reader, parallel: number, most: number, roomFor: () => Room): void {
    if (this.#foreseen.size === 0) return;
    const onEnd = (): void => undefined;
    const units = [...this.#foreseen].filter((unit) => unit < reader.map.units);
    const list = units.slice(0, most).values();
    this.#stop = startPrefetch({
      reader,
      priority: TRACE,
      units: list as Iterator<number, undefined>,
      rate: undefined,
      parallel,
      file: undefined,
      roomFor,
      onEnd,
    });
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  /** Ends a replay that guesses wrong. */
  #judge(unit: number): void {
    if (this.#stop === undefined || this.#demands >= TRIAL) return;
    this.#demands += 1;
    if (this.#foreseen.has(unit)) this.#right += 1;
    if (this.#demands === TRIAL && this.#right < TRIAL * ENOUGH) this.stop();
  }
}
