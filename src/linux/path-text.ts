// Paths as text: Linux allows any bytes in a path, and Node decodes them as UTF-8, with losses.
//
// In the text a byte that is not UTF-8 is half of a surrogate pair, U+DC80 to U+DCFF, as Python does it (PEP 383). So
// texts can be joined and compared as usual; `pathBytes` turns them back at each system call.

const ESCAPE_BASE = 0xdc00;

/** A byte of a path that is not UTF-8. In a valid pair it would not match, because of the flag u. */
const ESCAPED = /[\udc80-\udcff]/u;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes of a UTF-8 character, by its first byte. */
function lengthOfCharacter(first: number): number {
  if (first < 0xc0) return 1;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/** The text of a path, or of another word of the system. */
export function textOfPath(bytes: Uint8Array): string {
  const whole = decoded(bytes);
  if (whole !== undefined) return whole;
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = lengthOfCharacter(bytes[at]);
    const character = decoded(bytes.subarray(at, at + length));
    text += character ?? String.fromCharCode(ESCAPE_BASE + bytes[at]);
    at += character === undefined ? 1 : length;
  }
  return text;
}

/** Whether a path is valid UTF-8. */
export function isUtf8Path(text: string): boolean {
  return !ESCAPED.test(text);
}

/** The path for Node's file system calls: bytes where the text cannot express it. */
export function pathBytes(text: string): string | Buffer {
  if (isUtf8Path(text)) return text;
  const parts = Array.from(text, (character) =>
    ESCAPED.test(character)
      ? Buffer.from([character.charCodeAt(0) - ESCAPE_BASE])
      : Buffer.from(character, 'utf8'),
  );
  return Buffer.concat(parts);
}

/** Runs the command `$2 …` with the path `$1`, a format of printf(1), as its last word. `x` keeps newlines at the end. */
const WITH_PATH = `path=$(printf "$1"; printf x); shift; exec "$@" "\${path%x}"`;

/**
 * The words that start a program whose last word is a path. Node can pass on UTF-8 only, so a shell makes any other
 * path.
 */
export function wordsWithPath(words: readonly string[], path: string): readonly string[] {
  if (isUtf8Path(path)) return [...words, path];
  const octal = [...Buffer.from(pathBytes(path))].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`);
  return ['/bin/sh', '-c', WITH_PATH, 'sh', octal.join(''), ...words];
}
