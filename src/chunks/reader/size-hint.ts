// The size of an image whose compressed file does not say it surely, before all of the file has been decoded. Pure.
//
// A disk says its own size at its beginning (partitions/claimed-sizes). The end of a gzip file and the beginning of a zstd
// frame say a size that is not sure, since the file may have further members, and a zip archive may be damaged. Where both
// agree, the size is taken.

import type { Coding } from '../contract/coding.js';

/** The content size in the header of a zstd frame (RFC 8878, section 3.1.1); undefined: it says none. */
function zstdContentSize(head: Uint8Array): number | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < 18 || view.getUint32(0, true) !== 0xfd2fb528) return undefined;
  const [descriptor] = head.subarray(4, 5);
  const isSingle = (descriptor & 0x20) !== 0;
  const at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3];
  switch (descriptor >> 6) {
    case 0:
      return isSingle ? head[at] : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

/**
 * The most bytes that a compressed byte becomes: deflate copies 258 bytes by 2 bits, and 4 bytes of a zstd frame are a
 * block of 128 KiB.
 */
const MOST_RATIO: Partial<Record<Coding, number>> = { gzip: 1032, deflate: 1032, zstd: 32_768 };

/** Whether a compressed file of so many bytes can have an image of this size. */
export const canHold = (coding: Coding, fileSize: number, size: number): boolean =>
  size <= fileSize * (MOST_RATIO[coding] ?? Number.POSITIVE_INFINITY);

/**
 * Whether a compressed file says the same size.
 * @param head its first 18 bytes @param tail its last 4
 */
export function agrees(coding: Coding, size: number, head: Uint8Array, tail: Uint8Array): boolean {
  if (coding === 'gzip') {
    return new DataView(tail.buffer, tail.byteOffset, tail.byteLength).getUint32(0, true) === size % 2 ** 32;
  }
  return coding === 'zstd' && zstdContentSize(head) === size;
}
