// Recognizes NBD URIs. Pure, and small, since every start loads it.

/** With or without slashes: parseNbdUri has the better message for a malformed URI. */
const NBD_URI = /^nbds?(\+[a-z]*)?:/i;

/** Whether a word is meant as an NBD URI. */
export function isNbdUri(word: string): boolean {
  return NBD_URI.test(word);
}
