// Reads and changes any range of bytes with requests that the server's block sizes allow.
//
// Used by client.ts; nbd/block-rules.ts and nbd/request-lengths.ts have the rules. The parts of a long range
// are in flight together. A read of an unaligned range reads whole blocks; a change of one is a
// read-modify-write under a lock. Memory passed in belongs to the caller again when the promise is settled.

import {
  type Blocks,
  blocksOf,
  type Edge,
  payloadPart,
  splitAtBlocks,
  splitIntoParts,
  widen,
} from '../nbd/block-rules.js';
import type { ByteRange } from '../nbd/byte-range.js';
import {
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../nbd/constants.js';
import { NbdServerError } from '../nbd/errors.js';
import { type BlockSizes, effectiveBlockSizes, payloadLimit } from '../nbd/export-info.js';
import { ChangeLength, PayloadLimits } from '../nbd/request-lengths.js';
import type { ConnectionPool } from './connection-pool.js';
import { PendingCommand } from './pending-command.js';
import { RangeLock } from './range-lock.js';

/** Requests of one call that are in flight together. */
const PARTS_IN_FLIGHT = 8;

/** The errno with which the server has refused a request; -1 if the error is another one. */
function refusal(error: unknown): number {
  return error instanceof NbdServerError ? (error.errno ?? -1) : -1;
}

/**
 * The failure of a request in several parts: one that leaves it open whether its part is made, if there is any. An error
 * of the server would tell the caller that all parts are over.
 */
function failureOf(failures: readonly unknown[]): unknown {
  return failures.find((one) => !(one instanceof NbdServerError)) ?? failures[0];
}

/** The reasons of those that have failed. */
const failuresOf = (results: readonly PromiseSettledResult<unknown>[]): unknown[] =>
  results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));

/** Whether a read demands its reply in one chunk, whose length a server may limit. */
const isWhole = (flags: number): boolean => (flags & NBD_CMD_FLAG_DF) !== 0;

export class BlockIo {
  readonly #pool: ConnectionPool;
  readonly #blocks: Blocks;
  readonly #lock = new RangeLock();
  readonly #changeLength: ChangeLength;
  readonly #payload: PayloadLimits;
  readonly blockSizes: BlockSizes;

  constructor(pool: ConnectionPool) {
    this.#pool = pool;
    this.#blocks = blocksOf(pool.info);
    this.blockSizes = effectiveBlockSizes(pool.info);
    this.#payload = new PayloadLimits(payloadLimit(this.blockSizes), this.#blocks.minimum);
    this.#changeLength = new ChangeLength(pool.info.extendedHeaders);
  }

  /** Fills `into` with the bytes from `start` on. */
  read(start: bigint, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    const { minimum, tail } = this.#blocks;
    const isOne = into.length > 0 && into.length <= this.#payload.of(isWhole(flags));
    const bits = into.length | Number(BigInt.asUintN(32, start));
    if (isOne && tail === 0 && (bits & (minimum - 1)) === 0)
      return this.#readPlain(start, into, flags, signal);
    return this.#readParts(start, into, flags, signal);
  }

  /** A read that is one request: most are, so it makes only one promise. */
  #readPlain(start: bigint, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = (_: PendingCommand, error: unknown) => {
        if (error === undefined) resolve();
        else if (!this.#payload.lower(into.length, refusal(error), isWhole(flags))) reject(error);
        else this.#readParts(start, into, flags, signal).then(resolve, reject);
      };
      const command = { type: NBD_CMD_READ, flags, offset: start, length: into.length, into };
      this.#pool.send(new PendingCommand(command, settled), signal);
    });
  }

  async #readParts(start: bigint, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    const range = { start, end: start + BigInt(into.length) };
    const wide = widen(range, this.#blocks);
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
      (edge) => {
        const part = bytes.subarray(Number(edge.part.start - start), Number(edge.part.end - start));
        return this.#modify(edge, (old, at) => old.set(part, at), flags, signal);
      },
    );
  }

  /** Makes a range read as zeroes. */
  async zero(range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    await this.#change(
      range,
      (aligned) => this.#long(NBD_CMD_WRITE_ZEROES, aligned, flags, signal),
      (edge) => {
        const length = Number(edge.part.end - edge.part.start);
        // A WRITE, which has no flag but FUA: the other bytes of the block are data.
        const zero = (old: Buffer, at: number): Buffer => old.fill(0, at, at + length);
        return this.#modify(edge, zero, flags & NBD_CMD_FLAG_FUA, signal);
      },
    );
  }

  /** Tells the server that the contents of a range are not needed, except blocks that it covers in part. */
  async trim(range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    const { whole } = splitAtBlocks(range, this.#blocks);
    if (whole === undefined) return;
    await this.#locked(whole, false, () => this.#long(NBD_CMD_TRIM, whole, flags, signal));
  }

  /** Requests that the server caches a range. Some servers limit the length like that of a payload. */
  async cache(range: ByteRange, signal?: AbortSignal): Promise<void> {
    await this.#parts(widen(range, this.#blocks), this.#payload.of(false), async (offset, length) => {
      await this.#pool.submit({ type: NBD_CMD_CACHE, flags: 0, offset, length }, signal);
    });
  }

  async #readAligned(range: ByteRange, into: Uint8Array, flags: number, signal?: AbortSignal): Promise<void> {
    const inOneChunk = isWhole(flags);
    await this.#parts(range, this.#payload.of(inOneChunk), async (offset, length) => {
      const at = Number(offset - range.start);
      const part = into.subarray(at, at + length);
      await this.#shrinking(
        { start: offset, end: offset + BigInt(length) },
        inOneChunk,
        async () => {
          await this.#pool.submit({ type: NBD_CMD_READ, flags, offset, length, into: part }, signal);
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
    await this.#parts(range, this.#payload.of(false), async (offset, length) => {
      const at = Number(offset - range.start);
      const payload = bytes.subarray(at, at + length);
      await this.#shrinking(
        { start: offset, end: offset + BigInt(length) },
        false,
        async () => {
          await this.#pool.submit({ type: NBD_CMD_WRITE, flags, offset, length, payload }, signal);
        },
        (smaller) => this.#writeAligned(smaller, payload, flags, signal),
      );
    });
  }

  /** Sends one request; if the server finds it too large, repeats its range with a smaller largest payload. @param inOneChunk see isWhole */
  async #shrinking(
    range: ByteRange,
    inOneChunk: boolean,
    send: () => Promise<void>,
    again: (range: ByteRange) => Promise<void>,
  ): Promise<void> {
    try {
      await send();
    } catch (error) {
      const length = Number(range.end - range.start);
      if (!this.#payload.lower(length, refusal(error), inOneChunk)) throw error;
      await again(range);
    }
  }

  /** TRIM or WRITE_ZEROES, in requests as long as they can be: see nbd/request-lengths.ts. */
  async #long(type: number, range: ByteRange, flags: number, signal?: AbortSignal): Promise<void> {
    const rounds = this.#changeLength.rounds(range, this.#blocks, this.#payload.of(false), PARTS_IN_FLIGHT);
    for (let round = rounds.next(); round.done !== true; ) {
      const sent = round.value.map(({ offset, length }) =>
        this.#pool.submit({ type, flags, offset, length }, signal),
      );
      const failures = failuresOf(await Promise.allSettled(sent));
      const failure = failureOf(failures);
      round = rounds.next(failures.length === 0 ? 0 : refusal(failure));
      if (failures.length > 0 && round.done === true) throw failure;
    }
  }

  /**
   * Runs `each` on every part of a range, some at a time. Waits for all that it has begun, also after a
   * failure.
   */
  async #parts(
    range: ByteRange,
    limit: number,
    each: (offset: bigint, length: number) => Promise<void>,
  ): Promise<void> {
    const { size, tail } = this.#blocks;
    const length = Number(range.end - range.start);
    if (payloadPart(length, Number(size - range.start), limit, tail) === length) {
      if (length > 0) await each(range.start, length);
      return;
    }
    const queue = splitIntoParts(range, limit, this.#blocks);
    const failures: unknown[] = [];
    const sendSome = async () => {
      for (const part of queue) {
        await each(part.offset, part.length).catch((error) => failures.push(error));
        if (failures.length > 0) return;
      }
    };
    await Promise.all(Array.from({ length: PARTS_IN_FLIGHT }, sendSome));
    if (failures.length > 0) throw failureOf(failures);
  }

  async #locked<T>(range: ByteRange, exclusive: boolean, action: () => Promise<T>): Promise<T> {
    return this.blockSizes.minimum === 1 ? action() : this.#lock.run(range, exclusive, action);
  }

  /** Changes a range: its whole blocks by `aligned`, those that it covers in part by `edge`. */
  async #change(
    range: ByteRange,
    aligned: (range: ByteRange) => Promise<void>,
    edge: (edge: Edge) => Promise<void>,
  ): Promise<void> {
    const { edges, whole } = splitAtBlocks(range, this.#blocks);
    const work = edges.map((one) => this.#locked(one.block, true, () => edge(one)));
    if (whole !== undefined) work.push(this.#locked(whole, false, () => aligned(whole)));
    const failures = failuresOf(await Promise.allSettled(work));
    if (failures.length > 0) throw failureOf(failures);
  }

  async #modify(
    { block, part }: Edge,
    change: (old: Buffer, at: number) => void,
    flags: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const old = Buffer.allocUnsafe(Number(block.end - block.start));
    await this.#readAligned(block, old, 0, signal);
    change(old, Number(part.start - block.start));
    await this.#writeAligned(block, old, flags, signal);
  }
}
