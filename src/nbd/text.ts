// Escapes text of servers and URIs for terminals. Pure; the length of the result is bounded, and nothing throws.

import { NBD_MAX_STRING } from './constants.js';

/** Control characters, characters that reorder or hide text, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

const SHORT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\r', '\\r'],
]);

function escapeCharacter(character: string): string {
  const short = SHORT_ESCAPES.get(character);
  if (short !== undefined) return short;
  const point = character.codePointAt(0) ?? 0;
  // A byte that is not UTF-8: see nameFrom and src/linux/path-text.ts.
  const code = point >= 0xdc80 && point <= 0xdcff ? point - 0xdc00 : point;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

/** Length in bytes of a code point in UTF-8. */
function utf8Length(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  return code < 0x10000 ? 3 : 4;
}

/**
 * Returns the text on one line, with control characters, and characters that reorder or hide text, as escapes. Shows at
 * most `limit` bytes of the input, in UTF-8; `…` marks a cut. Invalid UTF-8 becomes U+FFFD.
 */
export function printable(text: string | Uint8Array, limit: number = NBD_MAX_STRING): string {
  const source = typeof text === 'string' ? text : new TextDecoder().decode(text.subarray(0, limit + 4));
  const shown: string[] = [];
  let used = 0;
  for (const character of source) {
    used += utf8Length(character);
    if (used > limit) return `${shown.join('')}…`;
    shown.push(UNPRINTABLE.test(character) ? escapeCharacter(character) : character);
  }
  return shown.join('');
}

/**
 * Escapes characters in JSON text that move the cursor or hide text and that JSON.stringify leaves as they are. The
 * result is JSON for the same value.
 */
export function printableJson(json: string): string {
  return json.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    if (character === '\n') return character;
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
}

/** Layout characters of a server's output, which are harmless on a terminal. */
const LAYOUT = new Set(['\n', '\t']);

/**
 * Makes a sink for the standard error of a server: `write` gets the text escaped as by `printable`, but with line ends
 * and tabs. A server may repeat text of an image or of a client.
 */
export function printableSink(write: (text: string) => void): (chunk: Uint8Array) => void {
  const decoder = new TextDecoder();
  return (chunk) => {
    const shown: string[] = [];
    for (const character of decoder.decode(chunk, { stream: true }).replaceAll('\r\n', '\n')) {
      const isPlain = LAYOUT.has(character) || !UNPRINTABLE.test(character);
      shown.push(isPlain ? character : escapeCharacter(character));
    }
    if (shown.length > 0) write(shown.join(''));
  };
}
