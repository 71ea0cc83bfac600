// A simulated disk behind a server: its content for reads, and its content after a crash.

import { mix } from './random.js';
import { Violation } from './violation.js';

/** See the file's head. Contents are numbers of writes, one per unit. */
export class SimulatedDisk {
  readonly isFirst: boolean;
  readonly volatile: Uint32Array;
  readonly stable: Uint32Array;
  /** Whether writes are stable at once: the server has no FLUSH. */
  readonly #writesThrough: boolean;
  /** Units whose content a failed FLUSH has dropped: no later FLUSH writes it. */
  readonly #dropped = new Set<number>();

  constructor(units: number, content: number, isFirst: boolean, writesThrough: boolean) {
    this.isFirst = isFirst;
    this.volatile = new Uint32Array(units).fill(content);
    this.stable = this.volatile.slice();
    this.#writesThrough = writesThrough;
  }

  write(unit: number, content: number, stable: boolean): void {
    this.volatile[unit] = content;
    this.#dropped.delete(unit);
    if (stable || this.#writesThrough) this.stable[unit] = content;
  }

  flush(): void {
    if (this.#dropped.size === 0) this.stable.set(this.volatile);
    else
      this.volatile.forEach((content, unit) => {
        if (!this.#dropped.has(unit)) this.stable[unit] = content;
      });
  }

  /**
   * A FLUSH fails as on Linux: its pages count as clean, and reads find them until a crash. `salt` decides which of them
   * had reached the disk.
   */
  failFlush(salt: number): void {
    for (let unit = 0; unit < this.volatile.length; unit++) {
      if (this.volatile[unit] === this.stable[unit] || this.#dropped.has(unit)) continue;
      if (salt % 2 === 1 && (mix(salt, unit) & 1) === 1) this.stable[unit] = this.volatile[unit];
      else this.#dropped.add(unit);
    }
  }

  /** The server's process ends: `salt` decides which parts of its cache had reached the disk. */
  crash(salt: number): void {
    if (this.volatile.length !== this.stable.length)
      throw new Violation('crash', 'a disk has changed its size');
    this.#dropped.clear();
    for (let unit = 0; unit < this.volatile.length; unit++) {
      if (this.volatile[unit] === this.stable[unit]) continue;
      if (salt % 2 === 1 && (mix(salt, unit) & 1) === 1) this.stable[unit] = this.volatile[unit];
      else this.volatile[unit] = this.stable[unit];
    }
  }
}
