// Words of a command line, quoted for a POSIX shell. Pure.

import { Buffer } from 'node:buffer';

const CONTROLS = /(?:(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}])+/gu;

/** Characters that a terminal would act on, or that reorder or hide text, as printf writes them. */
function printed(controls: string): string {
  const bytes = [...Buffer.from(controls)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`);
  return `'"$(printf '${bytes.join('')}')"'`;
}

/** A word, quoted for a shell; plain words stay unchanged. zsh expands a leading `=`. */
export function shellWord(word: string): string {
  if (word === '' || /^[\w@%+:,./-][\w@%+=:,./-]*$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''").replaceAll(CONTROLS, printed)}'`;
}

/** A command line of these words. */
export function shellLine(words: readonly string[]): string {
  return words
    .map((word) => (word === '' ? "''" : word === '[' || word === ']' ? word : shellWord(word)))
    .join(' ');
}
