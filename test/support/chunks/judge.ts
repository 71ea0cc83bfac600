// Compares the reading of a file with what the reference program makes of it.

import type { Opened } from './opened-file.js';
import type { Reference } from './reference.js';

/** Text of the line that says where reads fail. */
const PLACE = /: reads of the image from byte (\d+)(?: to \d+)? fail$/;

/** Facts about a file. */
export interface Known {
  /** Whether the reference program must be content. */
  readonly isWhole?: boolean;
  /**
   * The image of a damaged file, if a wrong byte of it cannot pass for a right one: bytes behind those that the
   * reference program has written must be those of the image.
   */
  readonly image?: Buffer | undefined;
  /** Whether the file is only too short: all that the reference program writes must be readable. */
  readonly isCut?: boolean;
  /** Whether a kept index may stand for the file, whose warning is not repeated. */
  readonly isKept?: boolean;
  /** Whether nothing checks the bytes: they are a range of an archive. */
  readonly isUnchecked?: boolean;
  /** Whether a refusal is right although the reference program makes something of the file. */
  readonly mayBeRefused?: boolean;
}

/** The faults of a reading. */
export function faultsOf(opened: Opened, reference: Reference, known: Known): string[] {
  if (known.isWhole === true && !reference.isWhole) return ['the reference program refuses it'];
  if (reference.isWhole && !(known.mayBeRefused === true && opened.refusal !== undefined))
    return faultsOfWhole(opened, reference, known);
  if (opened.refusal !== undefined) return opened.refusal === '' ? ['no reason'] : [];
  return [...faultsOfPart(opened, reference, known), ...faultsOfEnd(opened, reference, known)];
}

function faultsOfWhole(
  { refusal, size, parts, lines }: Opened,
  { bytes, isWarned }: Reference,
  { isKept }: Known,
): string[] {
  if (refusal !== undefined) return [`refused: ${refusal}`];
  if (isWarned && isKept !== true && lines.length === 0) return ['no line'];
  if (size !== bytes.length) return [`${size} bytes, not ${bytes.length}`];
  return parts.flatMap(({ offset, length, bytes: read }) => {
    if (read === undefined) return [`EIO for ${length} at ${offset}`];
    const isRight = Buffer.compare(read, bytes.subarray(offset, offset + length)) === 0;
    return isRight ? [] : [`other bytes in ${length} at ${offset}`];
  });
}

/** Of a file that the reference program refuses: bytes that are different. */
function faultsOfPart({ parts }: Opened, { bytes: written }: Reference, { image }: Known): string[] {
  return parts.flatMap(({ offset, length, bytes }) => {
    if (bytes === undefined) return [];
    const common = Math.max(0, Math.min(length, written.length - offset));
    if (Buffer.compare(bytes.subarray(0, common), written.subarray(offset, offset + common)) !== 0)
      return [`other bytes in ${length} at ${offset}`];
    const rest = image?.subarray(offset + common, offset + length);
    const isRight = rest === undefined || Buffer.compare(bytes.subarray(common), rest) === 0;
    return isRight ? [] : [`bytes that are not the image's in ${length} at ${offset}`];
  });
}

/** The same: the damage must be named, and its place must be right. */
function faultsOfEnd(
  { offset: start, parts, lines }: Opened,
  { bytes }: Reference,
  { isCut, isKept, isUnchecked }: Known,
): string[] {
  const failed = parts.filter((part) => part.bytes === undefined);
  const faults: string[] = [];
  const needsNone = isUnchecked === true || (isKept === true && failed.length === 0);
  if (lines.length === 0 && !needsNone) faults.push('no line');
  const places = lines.flatMap((line) => PLACE.exec(line)?.[1] ?? []).map(Number);
  for (const { offset, length } of failed) {
    const what = `EIO for ${length} at ${offset}`;
    if (!places.some((place) => place < start + offset + length)) faults.push(`${what}, and no line`);
    if (isCut === true && offset + length <= bytes.length)
      faults.push(`${what}, before byte ${bytes.length}, up to which the reference program writes`);
  }
  return faults;
}
