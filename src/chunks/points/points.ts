// Finds the restart points of a compressed file without decoding it.

import type { Input, PointIndex } from '../contract/coding.js';
import type { PackedCoding } from '../decode/decoder.js';
import { findAndroidSparsePoints } from './android-sparse.js';
import { findXzPoints } from './xz.js';
import { findZstdPoints } from './zstd.js';

/**
 * The size and the restart points of a file, from what it says about itself.
 * @returns undefined: only decoding tells
 * @throws DecodeError if the file is damaged; the errors of `input`
 */
export async function findPoints(coding: PackedCoding, input: Input): Promise<PointIndex | undefined> {
  switch (coding) {
    case 'zstd':
      return findZstdPoints(input);
    case 'xz':
      return findXzPoints(input);
    case 'android-sparse':
      return findAndroidSparsePoints(input);
    default:
      return undefined;
  }
}
