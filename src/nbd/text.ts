// Makes text that a server or a URI supplied fit to be printed on a terminal.
//
// Called wherever foreign text becomes part of a message. Pure; never throws, and bounds what it
// returns whatever the input is.

import { NBD_MAX_STRING } from './constants.js';

/** Control characters, the marks that reorder or hide text, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

const SHORT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\r', '\\r'],
]);

function escapeCharacter(character: string): string {
  const short = SHORT_ESCAPES.get(character);
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

/** Bytes that a code point takes in UTF-8. */
function utf8Length(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  return code < 0x10000 ? 3 : 4;
}

/**
 * The text on one line, with control characters (and those that reorder or hide text) written as
 * escapes. At most `limit` bytes of the input, in UTF-8, are shown; `…` says that some were cut.
 * Bytes that are no UTF-8 show as U+FFFD.
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
 * JSON that is fit for a terminal: what JSON.stringify leaves as it is, though it moves the cursor or hides text, is
 * written as the escapes of JSON, so that it is the same text for whoever parses it.
 */
export function printableJson(json: string): string {
  return json.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    if (character === '\n') return character;
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
}

/** What is shown as it is in the lines of a server: a terminal does nothing else with them. */
const LAYOUT = new Set(['\n', '\t']);

/**
 * Takes what a server writes to its standard error, and gives it to `write` as it comes, with everything but line ends
 * and tabs written as `printable` does: a server may repeat what an image or a client has told it.
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
