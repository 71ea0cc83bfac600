// Virtual time: stands in for the timers and clocks of the process while a history runs.
//
// The chunk server uses Node's globals, which are replaced; its program changes nothing for the simulator.

interface Timer {
  readonly act: () => void;
  readonly every: number | undefined;
  at: number;
}

/** The part of Node's timers that the chunk server uses. */
interface Handle {
  readonly id: number;
  unref(): Handle;
}

const idOf = (handle: unknown): number => (handle as Partial<Handle> | undefined)?.id ?? 0;

/** 2026-01-01, in milliseconds. */
const EPOCH = 1_767_225_600_000;

/** See the file's head. */
export class VirtualTime {
  /** Milliseconds since the beginning of the history. */
  now = 0;
  readonly #timers = new Map<number, Timer>();
  #immediates = new Map<number, () => void>();
  #ids = 0;

  /** Replaces the globals. @returns a function that puts them back */
  install(): () => void {
    const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate } = globalThis;
    const before = { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate };
    const { now: dateNow } = Date;
    const performanceNow = performance.now;
    const clear = (handle: unknown): void => void this.#timers.delete(idOf(handle));
    Object.assign(globalThis, {
      setTimeout: (act: () => void, ms = 0) => this.#start(act, ms, undefined),
      setInterval: (act: () => void, ms = 0) => this.#start(act, ms, ms),
      clearTimeout: clear,
      clearInterval: clear,
      setImmediate: (act: () => void) => {
        const handle = this.#handle();
        this.#immediates.set(handle.id, act);
        return handle;
      },
      clearImmediate: (handle: unknown) => void this.#immediates.delete(idOf(handle)),
    });
    Object.assign(Date, { now: () => EPOCH + Math.floor(this.now) });
    Object.assign(performance, { now: () => this.now });
    return () => {
      Object.assign(globalThis, before);
      Object.assign(Date, { now: dateNow });
      Object.assign(performance, { now: performanceNow });
    };
  }

  /** Forgets all timers, as the end of a process does. */
  clear(): void {
    this.#timers.clear();
    this.#immediates.clear();
  }

  get hasImmediates(): boolean {
    return this.#immediates.size > 0;
  }

  get hasTimers(): boolean {
    return this.#timers.size > 0;
  }

  /** Runs the functions of setImmediate. */
  runImmediates(): void {
    const immediates = this.#immediates;
    this.#immediates = new Map();
    for (const act of immediates.values()) act();
  }

  /** Lets time pass up to the next timer, and runs it. */
  runTimer(): void {
    let [next, id]: [Timer | undefined, number] = [undefined, 0];
    for (const [other, timer] of this.#timers)
      if (next === undefined || timer.at < next.at) [next, id] = [timer, other];
    if (next === undefined) return;
    this.now = Math.max(this.now, next.at);
    if (next.every === undefined) this.#timers.delete(id);
    else next.at = this.now + Math.max(1, next.every);
    next.act();
  }

  #start(act: () => void, ms: number, every: number | undefined): Handle {
    const handle = this.#handle();
    this.#timers.set(handle.id, { act, every, at: this.now + ms });
    return handle;
  }

  #handle(): Handle {
    this.#ids += 1;
    const handle: Handle = { id: this.#ids, unref: () => handle };
    return handle;
  }
}
