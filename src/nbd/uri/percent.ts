// Percent encoding of the parts of a URI (RFC 3986). Pure.

import { NbdArgumentError } from '../errors.js';
import { concat, nameBytes, nameFrom, utf8 } from '../wire.js';

/**
 * Percent-decodes UTF-8 text. A NUL is kept, since only the caller knows whether it is allowed there.
 * @throws NbdArgumentError on a % without two hexadecimal digits, and on invalid UTF-8
 */
export function percentDecode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new NbdArgumentError(`${what} is not percent-encoded UTF-8 (write a % as %25)`, { cause });
  }
}

/**
 * Percent-decodes the name of an export. Bytes that are not UTF-8 stay as they are, since some servers have such names.
 * @throws NbdArgumentError on a % without two hexadecimal digits
 */
export function percentDecodeName(text: string): string {
  if (/%(?![0-9a-f]{2})/i.test(text)) return percentDecode(text, 'the export name');
  const parts = text.split(/%([0-9a-f]{2})/i);
  return nameFrom(
    concat(...parts.map((part, i) => (i % 2 === 0 ? utf8(part) : Uint8Array.of(Number.parseInt(part, 16))))),
  );
}

/** Percent-encodes every byte of a name. */
export function percentBytes(name: string): string {
  return Array.from(nameBytes(name), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(
    '',
  );
}

/**
 * Percent-encodes a name or a path, with the bytes that are not UTF-8, for which `encodeURIComponent` throws. A part
 * that is valid keeps that function's form.
 */
export function percentEncode(text: string): string {
  const encode = (character: string): string =>
    /^\p{Cs}$/u.test(character) ? percentBytes(character) : encodeURIComponent(character);
  return Array.from(text, encode).join('');
}
