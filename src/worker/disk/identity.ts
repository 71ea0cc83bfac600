// The identity of a disk: sample blocks that tell it from another disk.
//
// Owned by a Disk. A server that comes back may serve another disk of the same size, which must not get unflushed
// writes. So nbdfuse keeps blocks of which it knows the contents: some that it reads before the first change, later
// ones that programs read, or that were written and flushed. IdentityCheck compares them on every new connection. A
// server that restarts may have forgotten any unflushed change, so a byte of a sample may be the old one or that of
// any change sent since; a FLUSH that covers all of these leaves the newest.

import { changesDisk, type NbdCommand } from '../flight/nbd-command.js';
import { assert } from '../memory/assert.js';
import { distance, highHalf, lowHalf, type Place, placesOverlap, toBigInt } from '../memory/u64.js';

/** Size of a sample in bytes; the block size where that is larger, or less on a smaller disk. */
const SAMPLE = 512;

/** Most samples, and the number up to which they are taken often. */
const MOST = 8;
const FEW = 4;

/** Milliseconds between two samples: with few of them, and later. */
const SOON = 500;
const LATER = 10_000;

/** Bytes of a set of byte values: one bit for each. */
const SET = 32;

/** A sample block. */
export class Sample implements Place {
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
  /** Number of the last change sent to the block; 0: none since the contents were known. */
  changedBy = 0;
  /** Whether a change has failed that may have been made or not: a FLUSH does not tell. */
  isDoubtful = false;
  readonly #stable: Uint8Array;
  /** The contents after all changes, and for each byte the set of its values since; undefined: unchanged. */
  #newest: Uint8Array | undefined;
  #allowed: Uint8Array | undefined;

  constructor(offsetHi: number, offsetLo: number, bytes: Uint8Array) {
    this.offsetHi = offsetHi;
    this.offsetLo = offsetLo;
    this.length = bytes.length;
    this.#stable = bytes;
  }

  /** Whether it has other bytes than zeros, which many disks have. */
  get tells(): boolean {
    return this.#stable.some((byte) => byte !== 0);
  }

  /** Whether these may be the bytes of the block. */
  matches(found: Uint8Array): boolean {
    const allowed = this.#allowed;
    if (allowed === undefined) return Buffer.compare(found, this.#stable) === 0;
    return found.every((byte, at) => (allowed[at * SET + (byte >> 3)] & (1 << (byte & 7))) !== 0);
  }

  /** Allows the bytes of a change too, which is sent. */
  change(command: NbdCommand): void {
    this.#newest ??= this.#stable.slice();
    this.#allowed ??= setsOf(this.#stable);
    const ahead = distance(command.offsetHi, command.offsetLo, this.offsetHi, this.offsetLo);
    const from = Math.max(0, ahead);
    const end = Math.min(this.length, ahead + command.length);
    const { buffer } = command;
    if (buffer === undefined) this.#newest.fill(0, from, end);
    else {
      const start = command.bufferAt + from - ahead;
      this.#newest.set(buffer.bytes.subarray(start, start + end - from), from);
    }
    for (let at = from; at < end; at++) {
      const byte = this.#newest[at];
      this.#allowed[at * SET + (byte >> 3)] |= 1 << (byte & 7);
    }
    // The failed change is overwritten.
    if (from === 0 && end === this.length) this.isDoubtful = false;
  }

  /** The sample after a FLUSH that has covered every change. */
  flushed(): Sample {
    assert(this.#newest !== undefined && !this.isDoubtful, 'the contents of a flushed sample are known');
    return new Sample(this.offsetHi, this.offsetLo, this.#newest);
  }
}

function setsOf(bytes: Uint8Array): Uint8Array {
  const sets = new Uint8Array(bytes.length * SET);
  bytes.forEach((byte, at) => {
    sets[at * SET + (byte >> 3)] = 1 << (byte & 7);
  });
  return sets;
}

/** See the file's head. */
export class Identity {
  /** Whether the caller should offer the next received data to `saw`. */
  wanted: boolean;
  /** Size of a sample in bytes: a power of two. */
  readonly unit: number;
  #samples: Sample[] = [];
  #wantedAt = 0;
  /** Blocks that are being read as samples. */
  #expected: Place[] = [];
  readonly #zeros: Buffer;
  readonly #isKept: boolean;
  /** Whether the server has FLUSH. Without it nobody knows which changes it may lose: a change drops a sample. */
  readonly #canFlush: boolean;

  /**
   * @param minimum the block size in bytes
   * @param size bytes of the disk
   * @property isKept false: take no samples, since not all changes pass through here, or nothing reconnects
   * @property canFlush whether the server has FLUSH
   */
  constructor(minimum: number, size: bigint, { isKept, canFlush }: { isKept: boolean; canFlush: boolean }) {
    const most = size < SAMPLE ? 2 ** Math.floor(Math.log2(Math.max(1, Number(size)))) : SAMPLE;
    this.unit = Math.max(most, minimum);
    this.#zeros = Buffer.alloc(this.unit);
    this.#isKept = isKept;
    this.#canFlush = canFlush;
    this.wanted = isKept;
  }

  /** Whether a sample outlives the changes to its block. */
  get outlivesChanges(): boolean {
    return this.#isKept && this.#canFlush;
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
      // Native code: a scan of 1 MiB of zeros by a callback takes milliseconds.
      if (!zeros && this.#zeros.equals(block)) continue;
      const offset = toBigInt(hi, lo) + BigInt(from);
      const sample = new Sample(highHalf(offset), lowHalf(offset), block.slice());
      this.#samples = this.#samples.filter((one) => !placesOverlap(one, sample));
      if (this.#samples.length === MOST) this.#samples.shift();
      this.#samples.push(sample);
      return;
    }
  }

  /** Offsets of blocks to read before the first change, on a disk of `size` bytes: the first, the middle, the last. */
  candidates(size: bigint): readonly bigint[] {
    const unit = BigInt(this.unit);
    const last = size - unit;
    return last < 0n ? [] : [...new Set([0n, (last / 2n / unit) * unit, (last / unit) * unit])];
  }

  /** Records that the block at (hi, lo) is being read as a sample. */
  expect(offsetHi: number, offsetLo: number): Place {
    const block = { offsetHi, offsetLo, length: this.unit };
    this.#expected.push(block);
    return block;
  }

  /** Ends what `expect` began. Returns whether no change was sent to the block meanwhile. */
  isAsExpected(block: Place): boolean {
    const isExpected = this.#expected.includes(block);
    this.#expected = this.#expected.filter((one) => one !== block);
    return isExpected;
  }

  /** Records that a change is sent. @param number its number among the changes sent */
  changed(command: NbdCommand, number: number): void {
    if (this.#expected.length > 0)
      this.#expected = this.#expected.filter((one) => !placesOverlap(one, command));
    for (const sample of this.#samples) {
      if (!placesOverlap(sample, command)) continue;
      if (!this.#canFlush) {
        this.#samples = this.#samples.filter((one) => !placesOverlap(one, command));
        return;
      }
      sample.change(command);
      sample.changedBy = number;
    }
  }

  /** A FLUSH has made the first `number` changes durable; later ones may be, too. */
  flushed(number: number): void {
    for (const [at, sample] of this.#samples.entries())
      if (sample.changedBy > 0 && sample.changedBy <= number && !sample.isDoubtful)
        this.#samples[at] = sample.flushed();
  }

  /** A change or a FLUSH has failed: nobody knows what the disk has of it. */
  failed(command: NbdCommand): void {
    for (const sample of this.#samples)
      if (sample.changedBy > 0 && (!changesDisk(command) || placesOverlap(sample, command)))
        sample.isDoubtful = true;
  }

  /** Acknowledged changes may be lost. */
  lost(): void {
    for (const sample of this.#samples) if (sample.changedBy > 0) sample.isDoubtful = true;
  }

  /** Drops all samples: somebody else has changed the disk. */
  reset(): void {
    this.#samples = [];
  }
}
