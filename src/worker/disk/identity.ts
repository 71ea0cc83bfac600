// How a disk is told from another one: a few of its blocks, as they are on the server.
//
// Owned by a Disk. A server that comes back may serve another disk of the same size: what was not flushed must not be
// sent there. So some blocks are remembered that were read, or written and flushed, and every new connection is asked
// for them before it is given anything else (IdentityCheck). A block that is written to is forgotten.

import { distance, toBigInt } from '../memory/u64.js';

/** Bytes of one sample, or the disk's least request where that is more. */
const SAMPLE = 512;

/** Samples at most, and as many as are taken soon. */
const MOST = 8;
const FEW = 4;

/** Milliseconds between two looks at what passes by, while there are few samples, and later. */
const SOON = 500;
const LATER = 10_000;

/** A range of the disk. */
interface Place {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
}

/** One block. */
export interface Sample {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly bytes: Uint8Array;
}

/** See the file's head. */
export class Identity {
  /** Whether the next data that come from the server shall be shown to `saw`. */
  wanted: boolean;
  /** Bytes of a sample. */
  readonly unit: number;
  #samples: Sample[] = [];
  #wantedAt = 0;
  #expected: { readonly hi: number; readonly lo: number } | undefined;

  readonly #isKept: boolean;

  /**
   * @param minimum the disk's block size in bytes
   * @param isKept false: no samples are taken, since nobody here knows of all changes, or connects again
   */
  constructor(minimum: number, isKept: boolean) {
    this.unit = Math.max(SAMPLE, minimum);
    this.#isKept = isKept;
    this.wanted = isKept;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Wants a sample when it is time for one. */
  look(now: number): void {
    if (!this.#isKept || now - this.#wantedAt < (this.#samples.length < FEW ? SOON : LATER)) return;
    this.#wantedAt = now;
    this.wanted = true;
  }

  /**
   * Bytes of the disk are stable, and lie at byte `at` of `bytes`. The first whole block of them becomes a sample.
   * @param zeros whether a block of zeros may become one
   */
  saw({ offsetHi: hi, offsetLo: lo, length }: Place, bytes: Uint8Array, at: number, zeros: boolean): void {
    this.wanted = false;
    const { unit } = this;
    const skipped = -lo & (unit - 1);
    for (let from = skipped; from + unit <= length; from += unit) {
      const block = bytes.subarray(at + from, at + from + unit);
      if (!zeros && block.every((byte) => byte === 0)) continue;
      const offset = toBigInt(hi, lo) + BigInt(from);
      const offsetHi = Number(offset >> 32n);
      const offsetLo = Number(offset & 0xffff_ffffn);
      this.#forget((one) => one.offsetHi === offsetHi && one.offsetLo === offsetLo);
      if (this.#samples.length === MOST) this.#samples.shift();
      this.#samples.push({ offsetHi, offsetLo, bytes: block.slice() });
      return;
    }
  }

  /** Offsets of blocks worth a READ of our own, on a disk of `size` bytes: the first, the middle and the last one. */
  candidates(size: bigint): readonly bigint[] {
    const unit = BigInt(this.unit);
    const last = size - unit;
    return last < 0n ? [] : [0n, (last / 2n / unit) * unit, (last / unit) * unit];
  }

  /** The block at (hi, lo) is being asked for, to become a sample. */
  expect(hi: number, lo: number): void {
    this.#expected = { hi, lo };
  }

  /** Whether nothing has changed the block that was asked for. */
  get isAsExpected(): boolean {
    return this.#expected !== undefined;
  }

  /** `length` bytes at (hi, lo) are being changed. */
  changed(hi: number, lo: number, length: number): void {
    if (this.#expected !== undefined) {
      const ahead = distance(this.#expected.hi, this.#expected.lo, hi, lo);
      if (ahead < length && -ahead < this.unit) this.#expected = undefined;
    }
    for (const { offsetHi, offsetLo } of this.#samples) {
      const ahead = distance(offsetHi, offsetLo, hi, lo);
      if (ahead >= length || -ahead >= this.unit) continue;
      this.#forget((one) => {
        const apart = distance(one.offsetHi, one.offsetLo, hi, lo);
        return apart < length && -apart < this.unit;
      });
      return;
    }
  }

  /** Forgets everything: the disk has changed without us. */
  reset(): void {
    this.#samples = [];
  }

  #forget(isOver: (sample: Sample) => boolean): void {
    this.#samples = this.#samples.filter((sample) => !isOver(sample));
  }
}
