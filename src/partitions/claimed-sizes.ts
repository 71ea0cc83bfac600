// The size of a disk as its first bytes say it: in a partition table, or in the superblock of a file system. Pure.
//
// A disk of that size has nothing behind it, as the footer of a VHD would be.

const TEXT = new TextDecoder('latin1');
const SECTOR = 512;

/** Fewest bytes of a disk that say something. */
export const HINT_LENGTH = 8192;

const textAt = (view: DataView, at: number, length: number): string =>
  at + length > view.byteLength ? '' : TEXT.decode(new Uint8Array(view.buffer, view.byteOffset + at, length));

/** Of a GPT: the backup of its header is in the last sector. */
function ofGpt(view: DataView): number | undefined {
  const sector = [SECTOR, 4096].find((one) => textAt(view, one, 8) === 'EFI PART');
  return sector === undefined ? undefined : (Number(view.getBigUint64(sector + 32, true)) + 1) * sector;
}

/** Of an MBR: many images end with their last partition. */
function ofMbr(view: DataView): number | undefined {
  if (view.getUint16(SECTOR - 2, true) !== 0xaa55) return undefined;
  const ends = [446, 462, 478, 494].map((at) => view.getUint32(at + 8, true) + view.getUint32(at + 12, true));
  return Math.max(...ends) * SECTOR;
}

/** Of FAT: the sectors of 16 or of 32 bits in its boot sector. */
function ofFat(view: DataView): number | undefined {
  if (view.getUint16(SECTOR - 2, true) !== 0xaa55) return undefined;
  const few = view.getUint16(19, true);
  return (few > 0 ? few : view.getUint32(32, true)) * view.getUint16(11, true);
}

function ofExt(view: DataView): number | undefined {
  const start = 1024;
  if (view.getUint16(start + 56, true) !== 0xef53) return undefined;
  const is64 = (view.getUint32(start + 96, true) & 0x80) !== 0;
  const high = is64 ? view.getUint32(start + 336, true) : 0;
  const blocks = high * 2 ** 32 + view.getUint32(start + 4, true);
  return blocks * 1024 * 2 ** view.getUint32(start + 24, true);
}

function ofXfs(view: DataView): number | undefined {
  if (textAt(view, 0, 4) !== 'XFSB') return undefined;
  return view.getUint32(4, false) * Number(view.getBigUint64(8, false));
}

function ofIso9660(view: DataView): number | undefined {
  const start = 32_768;
  if (textAt(view, start + 1, 5) !== 'CD001' || view.byteLength < start + 132) return undefined;
  return view.getUint32(start + 80, true) * view.getUint16(start + 128, true);
}

/** Of these, a disk ends where they say. */
const WHOLE = [ofGpt, ofExt, ofXfs, ofIso9660] as const;
/** Behind these, a disk may go on. */
const AT_LEAST = [ofMbr, ofFat] as const;

function sizesOf(head: Uint8Array, claims: readonly ((view: DataView) => number | undefined)[]) {
  if (head.length < HINT_LENGTH) return [];
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return claims
    .flatMap((claim) => claim(view) ?? [])
    .filter((size) => size > 0 && Number.isSafeInteger(size));
}

/** The sizes of a whole disk that its first bytes claim, in bytes. */
export const wholeSizes = (head: Uint8Array): readonly number[] => sizesOf(head, WHOLE);

/** The same, and the ends of partitions and file systems behind which a disk may go on. */
export const claimedSizes = (head: Uint8Array): readonly number[] => sizesOf(head, [...WHOLE, ...AT_LEAST]);
