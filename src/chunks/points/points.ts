// Finds the restart points of a compressed file without decoding it.

import type { Input, PointIndex } from '../contract/coding.js';
import type { PackedCoding } from '../decode/decoder.js';
import { findAndroidSparsePoints } from './android-sparse.js';
import { findXzPoints } from './xz.js';
import { findZstdPoints } from './zstd.js';

/** Points that a file names. */
export interface NamedPoints extends PointIndex {
  /** False: they may be wrong although the reference program decodes the file; another source must agree on the size. */
  readonly isProven: boolean;
}

const proven = (index: PointIndex): NamedPoints => ({ ...index, isProven: true });

/**
 * The size and the restart points of a file, from what it says about itself.
 * @returns undefined: only decoding tells
 * @throws DecodeError if the file is damaged; the errors of `input`
 */
export async function findPoints(coding: PackedCoding, input: Input): Promise<NamedPoints | undefined> {
  switch (coding) {
    case 'zstd':
      return findZstdPoints(input);
    case 'xz':
      return proven(await findXzPoints(input));
    case 'android-sparse':
      return proven(await findAndroidSparsePoints(input));
    default:
      return undefined;
  }
}
