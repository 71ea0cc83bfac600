// Reads and changes any range of bytes in requests that the server's block sizes allow.
//
// Used by client.ts. Long requests are split and their parts are in flight together; ranges that are
// not aligned are read wider, or written by read-modify-write under a lock. Memory passed in belongs
// to the caller again when the promise is settled.

import {
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../nbd/constants.js';
import { NbdServerError } from '../nbd/errors.js';
import { type BlockSizes, effectiveBlockSizes, payloadLimit } from '../nbd/export-info.js';
import type { ConnectionPool } from './connection-pool.js';
import { RangeLock } from './range-lock.js';
import { alignDown, alignUp, type ByteRange, lengthLimit, overlap, pieces } from './ranges.js';

const EINVAL = 22;
const EOVERFLOW = 75;

/** Requests of one call that are in flight together. */
const PARTS_IN_FLIGHT = 8;

export class BlockIo {
  readonly #links: ConnectionPool;
  readonly #size: bigint;
  /** Up to where there are whole blocks, of the minimum that the server has advertised. */
  readonly #wholeBlocks: bigint;
  readonly #lock = new RangeLock();
  #lengthLimit: number;
  #payloadLimit: number;
  readonly blockSizes: BlockSizes;

  constructor(links: ConnectionPool) {
    this.#links = links;
    this.#size = links.info.size;
    this.blockSizes = effectiveBlockSizes(links.info);
    this.#wholeBlocks = alignDown(this.#size, links.info.blockSizes?.minimum ?? 1);
    this.#payloadLimit = payloadLimit(this.blockSizes);
    this.#lengthLimit = lengthLimit(this.blockSizes, links.info.extendedHeaders);
  }

  /** Fills `into` with the bytes from `start` on. */
  async read(start: bigint, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    const range = { start, end: start + BigInt(into.length) };
    const wide = this.#widen(range);
    if (wide.start === range.start && wide.end === range.end) {
      await this.#readAligned(range, into, flags, signal);
      return;
    }
    const whole = Buffer.allocUnsafe(Number(wide.end - wide.start));
    await this.#readAligned(wide, whole, flags, signal);
    const skip = Number(range.start - wide.start);
    into.set(whole.subarray(skip, skip + into.length));
  }

  /** Writes `bytes` from `start` on. */
  async write(start: bigint, bytes: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    await this.#change(
      { start, end: start + BigInt(bytes.length) },
      (range) => this.#writeAligned(range, bytes.subarray(Number(range.start - start)), flags, signal),
      (block, range) => {
        const part = bytes.subarray(Number(range.start - start), Number(range.end - start));
        return this.#modify(block, range, (old, at) => old.set(part, at), flags, signal);
      },
    );
  }

  /** Makes a range read as zeroes. */
  async zero(range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    await this.#change(
      range,
      (aligned) => this.#long(NBD_CMD_WRITE_ZEROES, aligned, flags, signal),
      (block, part) => {
        const length = Number(part.end - part.start);
        // The block's other bytes are data: only FUA has a meaning for such a write.
        return this.#modify(block, part, (old, at) => old.fill(0, at, at + length), flags & 1, signal);
      },
    );
  }

  /** Tells the server that a range's contents are not needed; blocks that are needed in part stay. */
  async trim(range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    const { minimum } = this.blockSizes;
    const start = alignUp(range.start, minimum, this.#size);
    const end = range.end === this.#size ? range.end : alignDown(range.end, minimum);
    if (start >= end) return;
    await this.#locked({ start, end }, false, () => this.#long(NBD_CMD_TRIM, { start, end }, flags, signal));
  }

  /** Asks the server to have a range at hand. Counts as payload, since some servers limit it so. */
  async cache(range: ByteRange, signal?: AbortSignal): Promise<void> {
    await this.#plain(NBD_CMD_CACHE, this.#widen(range), this.#payloadLimit, 0, signal);
  }

  #widen({ start, end }: ByteRange): ByteRange {
    const { minimum } = this.blockSizes;
    return { start: alignDown(start, minimum), end: alignUp(end, minimum, this.#size) };
  }

  async #readAligned(range: ByteRange, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    await this.#parts(range, this.#payloadLimit, async (offset, length) => {
      const at = Number(offset - range.start);
      const part = into.subarray(at, at + length);
      await this.#shrinking(
        { start: offset, end: offset + BigInt(length) },
        async () => {
          await this.#links.submit({ type: NBD_CMD_READ, flags, offset, length, into: part }, signal);
        },
        (smaller) => this.#readAligned(smaller, part, flags, signal),
      );
    });
  }

  async #writeAligned(
    range: ByteRange,
    bytes: Uint8Array,
    flags: number,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#parts(range, this.#payloadLimit, async (offset, length) => {
      const at = Number(offset - range.start);
      const payload = bytes.subarray(at, at + length);
      await this.#shrinking(
        { start: offset, end: offset + BigInt(length) },
        async () => {
          await this.#links.submit({ type: NBD_CMD_WRITE, flags, offset, length, payload }, signal);
        },
        (smaller) => this.#writeAligned(smaller, payload, flags, signal),
      );
    });
  }

  /** Tries once; when the server finds it too large, remembers a smaller limit and tries in pieces. */
  async #shrinking(
    range: ByteRange,
    whole: () => Promise<void>,
    again: (range: ByteRange) => Promise<void>,
  ): Promise<void> {
    try {
      await whole();
    } catch (error) {
      const length = Number(range.end - range.start);
      const { minimum } = this.blockSizes;
      if (!(error instanceof NbdServerError) || error.errno !== EOVERFLOW || length < 2 * minimum)
        throw error;
      const half = Math.floor(length / 2 / minimum) * minimum;
      this.#payloadLimit = Math.min(this.#payloadLimit, half);
      await again(range);
    }
  }

  /**
   * In requests as long as they can be. A server may find them too long where they are longer than its
   * largest payload: then in pieces of that, from now on (proto.md, "Size constraints").
   */
  async #long(type: number, range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    const limit = this.#lengthLimit;
    try {
      await this.#plain(type, range, limit, flags, signal);
    } catch (error) {
      const isTooLong =
        error instanceof NbdServerError && (error.errno === EOVERFLOW || error.errno === EINVAL);
      const longest = range.end - range.start < BigInt(limit) ? Number(range.end - range.start) : limit;
      if (!isTooLong || longest <= this.#payloadLimit) throw error;
      await this.#plain(type, range, this.#payloadLimit, flags, signal);
      this.#lengthLimit = this.#payloadLimit;
    }
  }

  async #plain(
    type: number,
    range: ByteRange,
    limit: number,
    flags: number,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#parts(range, limit, async (offset, length) => {
      await this.#links.submit({ type, flags, offset, length }, signal);
    });
  }

  /** Runs `each` on every part of a range, some at a time; waits for all of them, also after a failure. */
  async #parts(
    range: ByteRange,
    limit: number,
    each: (offset: bigint, length: number) => Promise<void>,
  ): Promise<void> {
    // A last block that is less than one goes by itself: the server may refuse it, and only it.
    if (range.start < this.#wholeBlocks && range.end > this.#wholeBlocks) {
      await this.#parts({ start: range.start, end: this.#wholeBlocks }, limit, each);
      await this.#parts({ start: this.#wholeBlocks, end: range.end }, limit, each);
      return;
    }
    if (range.end - range.start <= BigInt(limit)) {
      if (range.end > range.start) await each(range.start, Number(range.end - range.start));
      return;
    }
    const queue = pieces(range, limit);
    const failures: unknown[] = [];
    const lane = async () => {
      for (const { offset, length } of queue) {
        await each(offset, length).catch((error) => failures.push(error));
        if (failures.length > 0) return;
      }
    };
    await Promise.all(Array.from({ length: PARTS_IN_FLIGHT }, lane));
    if (failures.length > 0) throw failures[0];
  }

  async #locked<T>(range: ByteRange, exclusive: boolean, action: () => Promise<T>): Promise<T> {
    return this.blockSizes.minimum === 1 ? action() : this.#lock.run(range, exclusive, action);
  }

  /** Changes a range: its whole blocks by `aligned`, the blocks at its edges by `edge`. */
  async #change(
    range: ByteRange,
    aligned: (range: ByteRange) => Promise<void>,
    edge: (block: ByteRange, range: ByteRange) => Promise<void>,
  ): Promise<void> {
    const { minimum } = this.blockSizes;
    if (range.start === range.end) return;
    const wide = this.#widen(range);
    const startsInside = wide.start < range.start;
    const endsInside = wide.end > range.end;
    const headEnd = startsInside ? alignUp(range.start, minimum, this.#size) : range.start;
    const tailStart = endsInside ? alignDown(range.end, minimum) : range.end;
    const work: Promise<void>[] = [];
    if (startsInside) {
      const block = { start: wide.start, end: headEnd };
      work.push(this.#locked(block, true, () => edge(block, overlap(block, range))));
    }
    if (headEnd < tailStart) {
      const middle = { start: headEnd, end: tailStart };
      work.push(this.#locked(middle, false, () => aligned(middle)));
    }
    if (endsInside && tailStart >= headEnd) {
      const block = { start: tailStart, end: wide.end };
      work.push(this.#locked(block, true, () => edge(block, overlap(block, range))));
    }
    for (const result of await Promise.allSettled(work))
      if (result.status === 'rejected') throw result.reason;
  }

  async #modify(
    block: ByteRange,
    range: ByteRange,
    change: (old: Buffer, at: number) => void,
    flags: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const old = Buffer.allocUnsafe(Number(block.end - block.start));
    await this.#readAligned(block, old, 0, signal);
    change(old, Number(range.start - block.start));
    await this.#writeAligned(block, old, flags, signal);
  }
}
