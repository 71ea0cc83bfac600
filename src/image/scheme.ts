// Whether a word is meant as an NBD URI. Pure, and small, since every start asks.

/** With or without slashes: parseNbdUri knows best how to complain about what is not well formed. */
const NBD_URI = /^nbds?(\+[a-z]*)?:/i;

/** Whether a word is meant as an NBD URI. */
export function isNbdUri(word: string): boolean {
  return NBD_URI.test(word);
}
