// Words of a command line, quoted for a POSIX shell. Pure.

/** A word as a shell reads it again; plain words stay as they are. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) || word === '' ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A command line of these words. */
export function shellLine(words: readonly string[]): string {
  return words
    .map((word) => (word === '' ? "''" : word === '[' || word === ']' ? word : shellWord(word)))
    .join(' ');
}
