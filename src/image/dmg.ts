// Refuses the dmg images that QEMU cannot open, by their trailer, or cannot decode, by the list of their blocks.
//
// QEMU reports them only with the name of an errno. Used by prepare.ts. Layout: QEMU's block/dmg.c.

import { printable } from '../nbd/text.js';
import { type DiskReader, readWithin } from '../partitions/table.js';
import { ImageError } from './errors.js';

const TRAILER = 512;
const [RESOURCES_LENGTH, SEGMENTS, LIST_AT, LIST_LENGTH] = [48, 60, 0xd8, 0xe0];
/** Maximum bytes of a list of blocks. */
const MAX_LIST = 16 * 1024 * 1024;
/** Bytes of the header of a table of blocks, and of an entry, which begins with its type. */
const [TABLE_HEADER, ENTRY] = [204, 40];
/** Types of blocks that QEMU does not decode. */
const UNKNOWN_TYPES: Readonly<Record<number, string>> = { 2147483652: 'ADC', 2147483656: 'lzma' };
const CONVERT = 'convert it where it was made (hdiutil convert)';

/** How the blocks of a dmg are compressed that QEMU does not decode; undefined: it decodes all. */
export async function unknownCoding(file: DiskReader, tail: Buffer): Promise<string | undefined> {
  const length = tail.readBigUInt64BE(LIST_LENGTH);
  if (length > BigInt(MAX_LIST)) return undefined;
  const list = await readWithin(file, tail.readBigUInt64BE(LIST_AT), Number(length));
  for (const [, text = ''] of list.toString('latin1').matchAll(/<data>([^<]*)<\/data>/g)) {
    const table = Buffer.from(text, 'base64');
    if (table.toString('latin1', 0, 4) !== 'mish') continue;
    for (let at = TABLE_HEADER; at + ENTRY <= table.length; at += ENTRY) {
      const coding = UNKNOWN_TYPES[table.readUInt32BE(at)];
      if (coding !== undefined) return coding;
    }
  }
  return undefined;
}

/** @throws ImageError when QEMU does not decode the blocks of a dmg, and would fail each read of them */
export function refuseCoding(name: string, coding: string | undefined): void {
  if (coding === undefined) return;
  throw new ImageError(
    `${printable(name)} is a dmg compressed with ${coding}, which QEMU does not decode: convert it where it was made ` +
      '(hdiutil convert -format UDZO)',
  );
}

/** @param tail the last 512 bytes @throws ImageError when a dmg has no map of its blocks, or several files */
export function refuseDmg(name: string, tail: Buffer): void {
  const shown = printable(name);
  if (tail.length < TRAILER || tail.toString('latin1', 0, 4) !== 'koly') {
    throw new ImageError(`${shown} does not look like a dmg image: use --format=raw if it is raw`);
  }
  if (tail.readUInt32BE(SEGMENTS) > 1) {
    throw new ImageError(`${shown} is one of several files of a dmg, which QEMU does not open: ${CONVERT}`);
  }
  const lengths = [RESOURCES_LENGTH, LIST_LENGTH].map((at) => tail.readBigUInt64BE(at));
  if (lengths.some((length) => length > 0n)) return;
  throw new ImageError(
    `${shown} is a dmg without a map of its blocks, which QEMU does not open: ${CONVERT}, ` +
      'or use --format=raw -r to see its bytes and the trailer behind them',
  );
}
