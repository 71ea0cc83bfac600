// The values of --format. Pure.

import { FORMAT_NAMES, type FormatWish, parseFormatWord } from '../../image/formats.js';
import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';

/** The values that completions offer. */
export const FORMAT_CHOICES: readonly string[] = [...FORMAT_NAMES, 'xz', 'gz'];

/** Parses the value of --format. @throws UsageError */
export function formatWish(text: string): FormatWish {
  const wish = parseFormatWord(text);
  if (wish !== undefined) return wish;
  throw new UsageError(
    `--format ${printable(text)}: must be one of ${FORMAT_NAMES.join(', ')}, xz, gz, or a combination such as qcow2.xz`,
  );
}
