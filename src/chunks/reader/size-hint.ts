// The size of an image whose compressed file does not say it surely, before all of the file has been decoded. Pure.
//
// A disk says its own size at its beginning: in a GPT, or in the superblock of a file system. The end of a gzip file and
// the beginning of a zstd frame say a size that is not sure, since the file may have further members. Where both agree,
// the size is taken.

import type { Coding } from '../contract/coding.js';

const TEXT = new TextDecoder('latin1');
const GPT = 'EFI PART';
/** Offset of the superblock of ext2, ext3 and ext4. */
const EXT = 1024;
const EXT_MAGIC = 0xef53;

/** Bytes of the image that `claimedSize` looks at. */
export const HINT_LENGTH = 8192;

/** The size that the first bytes of a disk claim, in bytes; undefined: none. */
export function claimedSize(head: Uint8Array): number | undefined {
  if (head.length < HINT_LENGTH) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  for (const sector of [512, 4096]) {
    // The backup of the header is in the last sector.
    if (TEXT.decode(head.subarray(sector, sector + 8)) === GPT)
      return (Number(view.getBigUint64(sector + 32, true)) + 1) * sector;
  }
  if (view.getUint16(EXT + 56, true) !== EXT_MAGIC) return undefined;
  const is64 = (view.getUint32(EXT + 96, true) & 0x80) !== 0;
  const high = is64 ? view.getUint32(EXT + 336, true) : 0;
  return (high * 2 ** 32 + view.getUint32(EXT + 4, true)) * 1024 * 2 ** view.getUint32(EXT + 24, true);
}

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
 * Whether a compressed file says the same size.
 * @param head its first 18 bytes @param tail its last 4
 */
export function agrees(coding: Coding, size: number, head: Uint8Array, tail: Uint8Array): boolean {
  if (coding === 'gzip') {
    return new DataView(tail.buffer, tail.byteOffset, tail.byteLength).getUint32(0, true) === size % 2 ** 32;
  }
  return coding === 'zstd' && zstdContentSize(head) === size;
}
