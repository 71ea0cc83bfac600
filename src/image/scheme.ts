// Recognizes URIs and URLs. Pure, and small, since every start loads it.

/** With or without slashes: parseNbdUri has the better message for a malformed URI. */
const NBD_URI = /^nbds?(\+[a-z]*)?:/i;

/** Whether a word is meant as an NBD URI. */
export function isNbdUri(word: string): boolean {
  return NBD_URI.test(word);
}

/** Whether a word names an image that a server on a network may have: a URI or URL, but of a file. */
export function isRemote(word: string): boolean {
  return isNbdUri(word) || (/^[a-z][\w+.-]*:\/\//i.test(word) && !/^file:/i.test(word));
}
