// Refuses the dmg images that QEMU cannot open, by their trailer. Pure.
//
// QEMU reports them only with the name of an errno. Used by prepare.ts. Layout of the trailer: QEMU's block/dmg.c.

import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';

const TRAILER = 512;
const [RESOURCES_LENGTH, SEGMENTS, LIST_LENGTH] = [48, 60, 0xe0];

/** @param tail the last 512 bytes @throws ImageError when a dmg has no map of its blocks, or several files */
export function refuseDmg(name: string, tail: Buffer): void {
  const shown = printable(name);
  if (tail.length < TRAILER || tail.toString('latin1', 0, 4) !== 'koly') {
    throw new ImageError(`${shown} does not look like a dmg image: use --format=raw if it is raw`);
  }
  const convert = 'convert it where it was made (hdiutil convert)';
  if (tail.readUInt32BE(SEGMENTS) > 1) {
    throw new ImageError(`${shown} is one of several files of a dmg, which QEMU does not open: ${convert}`);
  }
  const lengths = [RESOURCES_LENGTH, LIST_LENGTH].map((at) => tail.readBigUInt64BE(at));
  if (lengths.some((length) => length > 0n)) return;
  throw new ImageError(
    `${shown} is a dmg without a map of its blocks, which QEMU does not open: ${convert}, ` +
      'or use --format=raw -r to see its bytes and the trailer behind them',
  );
}
