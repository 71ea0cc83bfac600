// Why the chunk server cannot decode a compressed file, and what to do. Pure.
//
// Used by prepare.ts.

import { NbdServerError } from '../nbd/errors.js';
import { printable } from '../nbd/text.js';
import { CHUNK_SERVER_NAME } from '../transport/chunk-program.js';
import { TransportError } from '../transport/errors.js';
import { ImageError, ServerLineError } from './errors.js';
import type { Compression } from './formats.js';

/** The program that checks a file, by its compression. */
const CHECK: Readonly<Record<Compression | 'deflate', string>> = {
  xz: 'xz -t',
  gzip: 'gzip -t',
  bzip2: 'bzip2 -t',
  zstd: 'zstd -t',
  lz4: 'lz4 -t',
  deflate: 'unzip -t',
  'android-sparse': 'simg2img',
};

/** The text before the reason in a line of the chunk server, and in the description of its end. */
const LINE = /^(nbdfuse-chunks exited with status \d+: )?(nbdfuse(-chunks)?: )?/;
/** The text behind the reason: there is no mount whose reads could fail. */
const READS = /: reads of the image from byte \d+( to \d+)? fail$/;

/** The next step for a sound file that needs more than the decoder has, by words of the reason. */
const OTHER_STEPS: readonly (readonly [RegExp, string])[] = [
  [/apt-get install/, ''],
  [/Frame requires too much memory/, ': unpack it first (zstd -d --long=31)'],
  [/ needs \d+ MiB of memory/, ': unpack it first (xz -d)'],
  [/ filter of the xz data is not supported/, ': unpack it first, with a newer xz (xz -d)'],
  [/Dictionary mismatch/, ': unpack it first, with its dictionary (zstd -d -D DICTIONARY)'],
];

/** A compressed file. */
export interface PackedFile {
  /** As messages of nbdfuse show it. */
  readonly name: string;
  /** As lines of the chunk server begin with it. */
  readonly source: string;
  readonly compression: Compression | 'deflate';
}

/** The words of the chunk server in an error; undefined in one that has another cause, or its own next step. */
function wordsOf(error: unknown): string | undefined {
  if (error instanceof ServerLineError) return error.message;
  if (error instanceof NbdServerError) return printable(error.serverText) || error.message;
  const isEnd = error instanceof TransportError && error.message.startsWith(CHUNK_SERVER_NAME);
  return isEnd ? error.message : undefined;
}

/** The error to report instead of `error`, which a look into a compressed file has thrown. */
export function unpackingError({ name, source, compression }: PackedFile, error: unknown): unknown {
  const words = wordsOf(error);
  if (words === undefined) return error;
  const line = words.replace(LINE, '').replace(READS, '');
  const start = `${printable(source)}: `;
  const why = line.startsWith(start) ? line.slice(start.length) : line;
  const other = OTHER_STEPS.find(([words]) => words.test(why));
  const next = other === undefined ? `: get it again, and check it with ${CHECK[compression]}` : other[1];
  return new ImageError(`cannot decode ${printable(name)} (${compression}): ${why}${next}`, { cause: error });
}
