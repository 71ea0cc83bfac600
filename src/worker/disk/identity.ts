// The identity of a disk: sample blocks that tell it from another disk.
//
// Owned by a Disk. A server that comes back may serve another disk of the same size, which must not get unflushed
// writes. So nbdfuse keeps blocks that were read, or written and flushed, and IdentityCheck compares them on every new
// connection. A write to a sample drops it.

import { distance, toBigInt } from '../memory/u64.js';

/** Size of a sample in bytes; the block size where that is larger. */
const SAMPLE = 512;

/** Most samples, and the number up to which they are taken often. */
const MOST = 8;
const FEW = 4;

/** Milliseconds between two samples: with few of them, and later. */
const SOON = 500;
const LATER = 10_000;

/** A byte range of the disk. */
interface Place {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
}

/** A sample block. */
export interface Sample {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly bytes: Uint8Array;
}

/** See the file's head. */
export class Identity {
  /** Whether the caller should offer the next received data to `saw`. */
  wanted: boolean;
  /** Size of a sample in bytes. */
  readonly unit: number;
  #samples: Sample[] = [];
  #wantedAt = 0;
  #expected: { readonly hi: number; readonly lo: number } | undefined;

  readonly #isKept: boolean;

  /**
   * @param minimum the block size in bytes
   * @param isKept false: take no samples, since not all changes pass through here, or nothing reconnects
   */
  constructor(minimum: number, isKept: boolean) {
    this.unit = Math.max(SAMPLE, minimum);
    this.#isKept = isKept;
    this.wanted = isKept;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Sets `wanted` when a sample is due. */
  look(now: number): void {
    if (!this.#isKept || now - this.#wantedAt < (this.#samples.length < FEW ? SOON : LATER)) return;
    this.#wantedAt = now;
    this.wanted = true;
  }

  /**
   * Offers stable bytes of the disk, which lie at byte `at` of `bytes`. The first suitable whole block becomes a sample.
   * @param zeros whether a block of zeros is suitable; it identifies little
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

  /** Offsets for READs of samples, on a disk of `size` bytes: the first, the middle and the last block. */
  candidates(size: bigint): readonly bigint[] {
    const unit = BigInt(this.unit);
    const last = size - unit;
    return last < 0n ? [] : [0n, (last / 2n / unit) * unit, (last / unit) * unit];
  }

  /** Records that the block at (hi, lo) is being read as a sample. */
  expect(hi: number, lo: number): void {
    this.#expected = { hi, lo };
  }

  /** Whether no change has touched that block. */
  get isAsExpected(): boolean {
    return this.#expected !== undefined;
  }

  /** Drops the samples that overlap a change of `length` bytes at (hi, lo). */
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

  /** Drops all samples: somebody else has changed the disk. */
  reset(): void {
    this.#samples = [];
  }

  #forget(isOver: (sample: Sample) => boolean): void {
    this.#samples = this.#samples.filter((sample) => !isOver(sample));
  }
}
