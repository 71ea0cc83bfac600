// How long a request may be, and which length to try after a server has refused one as too long. Pure.
//
// READ and WRITE carry a payload, which the server limits. TRIM, WRITE_ZEROES and BLOCK_STATUS carry none: only the
// header limits their length, but a server may refuse more than its largest payload (proto.md, "Size constraints").
// Every length here is a multiple of every minimum block size.

import { NBD_EINVAL, NBD_EOVERFLOW } from './constants.js';

/** Bytes. Every larger length of 64 bits would not stay exact as a double. */
const EXTENDED = 2 ** 50;

/** Bytes: the last multiple of 64 KiB, the largest minimum block size, that 32 bits hold. */
const COMPACT = 0xffff_0000;

/** Bytes. Old versions of qemu-nbd fail to trim or zero more than 2 GiB at once (systemd issue 16242). */
const COMPACT_CHANGE = 2 ** 30;

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
