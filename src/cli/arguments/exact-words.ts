// The words of the command line, byte for byte.
//
// Node decodes them as UTF-8, and a byte that is not becomes U+FFFD: the name of another file. /proc/self/cmdline has
// the bytes. Used by main.ts.

import { isUtf8Path, textOfPath } from '../../linux/path-text.js';
import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';

const REPLACEMENT = '\ufffd';

/** Whether Node may have replaced bytes of these words. */
export function isDoubtful(words: readonly string[]): boolean {
  return words.some((word) => word.includes(REPLACEMENT));
}

/** The words, with bytes that are not UTF-8 as path-text.ts shows them. @param commandLine as in /proc/self/cmdline */
export function exactWords(words: readonly string[], commandLine: Uint8Array): readonly string[] {
  // Latin-1 has one character for each byte.
  const all = Buffer.from(commandLine).toString('latin1').split('\0').slice(0, -1);
  const first = all.length - words.length;
  return words.map((word, i) => {
    const exact = textOfPath(Buffer.from(all[first + i] ?? '', 'latin1'));
    return word.includes(REPLACEMENT) && !isUtf8Path(exact) ? exact : word;
  });
}

/** @param allowed the words that may be any bytes @throws UsageError for another word that is not UTF-8 */
export function refuseOtherThanUtf8(
  words: readonly string[],
  allowed: readonly (string | undefined)[],
): void {
  const isAllowed = (word: string): boolean => allowed.some((one) => one && word.endsWith(one));
  const odd = words.find((word) => !isUtf8Path(word) && !isAllowed(word));
  if (odd === undefined) return;
  throw new UsageError(
    `${printable(odd)}: the name is not UTF-8, which only MOUNTPOINT and --pidfile may be; use another name`,
  );
}
