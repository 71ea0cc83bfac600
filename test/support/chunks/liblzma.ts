// The versions of liblzma, for tests of the choice between two files of it.

import koffi from 'koffi';

/** Version 5.6.0, from which on liblzma is fast. */
export const FAST_LIBLZMA = 50_060_002;

/** The version of a file of liblzma, as a number that grows with it. */
export const lzmaVersionOf = (path: string): number =>
  koffi.load(path).func('lzma_version_number', 'uint32', [])();
