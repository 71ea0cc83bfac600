// The values of --format. Pure.

import { FORMAT_NAMES, parseFormatWord, type RequestedFormat } from '../../image/formats.js';
import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';

/** The suffixes of compressed files. */
const COMPRESSIONS = ['xz', 'gz', 'bz2', 'zst', 'lz4'];

/** The values that completions offer. */
export const FORMAT_CHOICES: readonly string[] = [...FORMAT_NAMES, ...COMPRESSIONS];

/** Parses the value of --format. @throws UsageError */
export function requestedFormat(text: string): RequestedFormat {
  const requested = parseFormatWord(text);
  if (requested !== undefined) return requested;
  throw new UsageError(
    `--format ${printable(text)}: must be one of ${FORMAT_NAMES.join(', ')}, ${COMPRESSIONS.join(', ')}, or a combination such as qcow2.xz`,
  );
}
