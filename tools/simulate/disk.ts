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

  constructor(units: number, content: number, isFirst: boolean, writesThrough: boolean) {
    this.isFirst = isFirst;
    this.volatile = new Uint32Array(units).fill(content);
    this.stable = this.volatile.slice();
    this.#writesThrough = writesThrough;
  }

  write(unit: number, content: number, stable: boolean): void {
    this.volatile[unit] = content;
    if (stable || this.#writesThrough) this.stable[unit] = content;
  }

  flush(): void {
    this.stable.set(this.volatile);
  }

  /** The server's process ends: `salt` decides which parts of its cache had reached the disk. */
  crash(salt: number): void {
    if (this.volatile.length !== this.stable.length)
      throw new Violation('crash', 'a disk has changed its size');
    for (let unit = 0; unit < this.volatile.length; unit++) {
      if (this.volatile[unit] === this.stable[unit]) continue;
      if (salt % 2 === 1 && (mix(salt, unit) & 1) === 1) this.stable[unit] = this.volatile[unit];
      else this.volatile[unit] = this.stable[unit];
    }
  }
}
