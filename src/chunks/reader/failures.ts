// The units of an image that cannot be decoded, because the file is damaged there. Pure.

import { UNIT } from '../contract/units.js';

/** A range of units without bytes. */
export interface Failure {
  readonly first: number;
  /** The unit behind the last one. */
  readonly end: number;
  /** The bytes of the first unit that come before the damage. */
  readonly partial: Uint8Array | undefined;
  /** One line that names the damage and its place. */
  readonly message: string;
}

export class Failures {
  readonly #failures: Failure[] = [];

  add(failure: Failure): void {
    this.#failures.push(failure);
  }

  of(unit: number): Failure | undefined {
    return this.#failures.find(({ first, end }) => first <= unit && unit < end);
  }

  /** Bytes of all these units. @param size bytes of the image */
  bytesOf(size: number): number {
    let [bytes, counted] = [0, 0];
    for (const { first, end } of [...this.#failures].sort((a, b) => a.first - b.first)) {
      const [from, to] = [Math.max(first * UNIT, counted), Math.min(end * UNIT, size)];
      if (to <= from) continue;
      bytes += to - from;
      counted = to;
    }
    return bytes;
  }
}
