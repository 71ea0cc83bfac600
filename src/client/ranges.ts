// Offsets and lengths that callers of the Promise API pass: checked and made exact. Pure.

import { constants } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import { isOnDisk } from '../nbd/block-rules.js';
import type { ByteRange } from '../nbd/byte-range.js';
import { NbdArgumentError } from '../nbd/errors.js';
import { printable } from '../nbd/text.js';

export type { ByteRange } from '../nbd/byte-range.js';

/** A byte position or count: a bigint, or a number that is a safe integer. */
export type ByteCount = bigint | number;

/** Characters of a wrong argument that a message shows. */
const MOST_SHOWN = 100;

const isNumber = (value: unknown): boolean => typeof value === 'number' || typeof value === 'bigint';

/** @throws NbdArgumentError if `bytes` is no Uint8Array, such as a string */
export function checkBytes(bytes: unknown): void {
  if (isUint8Array(bytes)) return;
  const found = printable(typeof bytes, MOST_SHOWN);
  throw new NbdArgumentError(`bad bytes of type ${found}: they must be a Uint8Array or a Buffer`, {
    code: 'ERR_INVALID_ARG_TYPE',
  });
}

/** @throws NbdArgumentError if no Buffer can have this length */
export function checkLength(length: unknown): void {
  if (typeof length !== 'number') {
    throw new NbdArgumentError(`bad length ${printable(String(length), MOST_SHOWN)}: it must be a number`, {
      code: 'ERR_INVALID_ARG_TYPE',
    });
  }
  if (length <= constants.MAX_LENGTH) return;
  throw new NbdArgumentError(`bad length ${length}: a Buffer has at most ${constants.MAX_LENGTH} bytes`, {
    code: 'ERR_OUT_OF_RANGE',
  });
}

function exact(value: ByteCount, what: string): bigint {
  if (typeof value === 'bigint' ? value >= 0n : Number.isSafeInteger(value) && value >= 0)
    return BigInt(value);
  const code = isNumber(value) ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE';
  const shown = printable(String(value), MOST_SHOWN);
  throw new NbdArgumentError(`bad ${what} ${shown}: it must be a whole number, 0 or more`, { code });
}

/** The range that a caller means. @throws NbdArgumentError when it is not inside of `size` bytes */
export function checkRange(offset: ByteCount, length: ByteCount, size: bigint): ByteRange {
  const start = exact(offset, 'offset');
  const count = exact(length, 'length');
  const end = start + count;
  if (!isOnDisk(count, size - start)) {
    throw new NbdArgumentError(
      `bytes ${start} to ${end} are outside the export, whose size is ${size} bytes`,
      { code: 'ERR_OUT_OF_RANGE' },
    );
  }
  return { start, end };
}
