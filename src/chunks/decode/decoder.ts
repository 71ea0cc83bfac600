// Makes the decoder for a coding.

import { type Coding, type Decoder, type MemberCheck, type RestartPoint, START } from '../contract/coding.js';
import { createAndroidSparseDecoder } from './android-sparse.js';
import { createBzip2Decoder } from './bzip2.js';
import { CheckedMember } from './checked-member.js';
import { createDeflateDecoder, createGzipDecoder } from './gzip.js';
import { createLz4Decoder } from './lz4.js';
import { createXzDecoder } from './xz.js';
import { createZstdDecoder } from './zstd.js';

/** The codings that have a decoder. */
export type PackedCoding = Exclude<Coding, 'plain'>;

const SPACING = 1024 * 1024;

/**
 * @param from where decoding begins: START, or a restart point of the same file
 * @param spacing least number of decoded bytes between the points of `takePoints`
 * @param check of a member of a zip archive, for a decoder of all of it
 * @throws DecodeError if there is not enough memory, Error if the system lacks the library
 */
export function createDecoder(
  coding: PackedCoding,
  from = START,
  spacing = SPACING,
  check?: MemberCheck,
): Decoder {
  const decoder = decoderOf(coding, from, spacing);
  // Only the bytes from the beginning on have the CRC.
  return check === undefined || from.out > 0 ? decoder : new CheckedMember(decoder, check);
}

function decoderOf(coding: PackedCoding, from: RestartPoint, spacing: number): Decoder {
  switch (coding) {
    case 'xz':
      return createXzDecoder(from, spacing);
    case 'bzip2':
      return createBzip2Decoder(from, spacing);
    case 'zstd':
      return createZstdDecoder(from, spacing);
    case 'lz4':
      return createLz4Decoder(from, spacing);
    case 'gzip':
      return createGzipDecoder(from, spacing);
    case 'deflate':
      return createDeflateDecoder(from, spacing);
    case 'android-sparse':
      return createAndroidSparseDecoder(from, spacing);
  }
}
