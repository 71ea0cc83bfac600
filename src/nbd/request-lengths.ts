// How long a request may be, and which length to try after a server has refused one as too long. Pure.
//
// READ and WRITE carry a payload, which the server limits. TRIM, WRITE_ZEROES and BLOCK_STATUS carry none: only the
// header limits their length, but a server may refuse more than its largest payload (proto.md, "Size constraints").
// Every length here is a multiple of every minimum block size.

import { type Blocks, type Part, splitIntoParts, splitTail } from './block-rules.js';
import type { ByteRange } from './byte-range.js';
import { NBD_EINVAL, NBD_EOVERFLOW } from './constants.js';

/** Bytes. Every larger length of 64 bits would not stay exact as a double. */
const EXTENDED = 2 ** 50;

/** Bytes: the last multiple of 64 KiB, the largest minimum block size, that 32 bits hold. */
const COMPACT = 0xffff_0000;

/** Bytes. Old versions of qemu-nbd fail to trim or zero more than 2 GiB at once (systemd issue 16242). */
const COMPACT_CHANGE = 2 ** 30;

/** Bytes: a server accepts every READ with NBD_CMD_FLAG_DF up to this length ("Request flags"). */
const LONGEST_SURE_WHOLE_READ = 65_536;

/** Bytes of the longest BLOCK_STATUS. */
export function longestStatus(extendedHeaders: boolean): number {
  return extendedHeaders ? EXTENDED : COMPACT;
}

/** Bytes of the longest TRIM or WRITE_ZEROES to try first. */
export function longestChange(extendedHeaders: boolean): number {
  return extendedHeaders ? EXTENDED : COMPACT_CHANGE;
}

/**
 * Bytes of the TRIMs or WRITE_ZEROES to try after the server has refused some of up to `length` bytes: its largest
 * payload. 0 if it has not refused their length: they were no longer than that, or the error has another reason.
 * @param errno the error, an errno or the `NBD_E*` of the same number
 * @param payload bytes of the largest payload
 */
export function lengthAfterRefusal(length: number, errno: number, payload: number): number {
  const isAboutLength = errno === NBD_EOVERFLOW || errno === NBD_EINVAL;
  return isAboutLength && length > payload ? payload : 0;
}

/**
 * Bytes of the largest payload to try after the server has refused a READ or WRITE of `length` bytes: half of it, in
 * whole blocks. 0 if it has not refused the length, or if half of it is less than a block.
 * @param errno as of lengthAfterRefusal; the document allows only NBD_EOVERFLOW here
 */
export function payloadAfterRefusal(length: number, errno: number, minimum: number): number {
  return errno === NBD_EOVERFLOW ? Math.floor(length / 2 / minimum) * minimum : 0;
}

/** The largest payload of an export's READs and WRITEs. A server may limit READs with NBD_CMD_FLAG_DF further. */
export class PayloadLimits {
  readonly #minimum: number;
  #any: number;
  #whole: number;

  /** @param maximum bytes @param minimum bytes of a block */
  constructor(maximum: number, minimum: number) {
    this.#minimum = minimum;
    this.#any = maximum;
    this.#whole = maximum;
  }

  /** Bytes. @param isWhole of a READ with NBD_CMD_FLAG_DF */
  of(isWhole: boolean): number {
    return isWhole ? Math.min(this.#whole, this.#any) : this.#any;
  }

  /**
   * Learns from the refusal of a READ or WRITE of `length` bytes. False if the server has not refused the length, or if
   * nothing shorter is left to try.
   */
  lower(length: number, errno: number, isWhole: boolean): boolean {
    const smaller = payloadAfterRefusal(length, errno, this.#minimum);
    if (smaller === 0) return false;
    if (isWhole && length > LONGEST_SURE_WHOLE_READ) this.#whole = Math.min(this.#whole, smaller);
    else this.#any = Math.min(this.#any, smaller);
    return true;
  }
}

/** The length of an export's TRIMs and WRITE_ZEROES: see longestChange and lengthAfterRefusal. */
export class ChangeLength {
  /** Bytes of the longest one that the server may accept. */
  #longest: number;

  constructor(extendedHeaders: boolean) {
    this.#longest = longestChange(extendedHeaders);
  }

  /**
   * The requests that change a range, in rounds of up to `count` that are in flight together. The caller passes the
   * errno of each round to `next`: 0 if all its requests have succeeded. A round whose length the server has refused
   * comes again in shorter requests. Returns the errno of the change.
   * @param range rounded out to blocks
   * @param payload bytes of the largest payload
   */
  *rounds(
    range: ByteRange,
    blocks: Blocks,
    payload: number,
    count: number,
  ): Generator<readonly Part[], number, number> {
    for (const { start, end } of splitTail(range, blocks)) {
      let limit = this.#longest;
      for (let at = start; at < end; ) {
        const round = firstOf(splitIntoParts({ start: at, end }, limit, blocks), count);
        const errno = yield round;
        if (errno === 0) {
          const last = round[round.length - 1];
          at = last.offset + BigInt(last.length);
          // Only now is it certain that the refusal was about the length: no request tries the longer one again.
          this.#longest = Math.min(this.#longest, limit);
          continue;
        }
        const shorter = lengthAfterRefusal(round[0].length, errno, payload);
        if (shorter === 0) return errno;
        limit = shorter;
      }
    }
    return 0;
  }
}

function firstOf(requests: Iterable<Part>, count: number): Part[] {
  const first: Part[] = [];
  for (const request of requests) {
    first.push(request);
    if (first.length === count) break;
  }
  return first;
}
