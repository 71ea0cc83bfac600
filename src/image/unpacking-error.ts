// Why the chunk server cannot decode a compressed file, and what to do. Pure.
//
// Used by prepare.ts.

import { NbdServerError } from '../nbd/errors.js';
import { printable } from '../nbd/text.js';
import { CHUNK_SERVER_NAME } from '../transport/chunk-program.js';
import { TransportError } from '../transport/errors.js';
import { ImageError } from './errors.js';
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

/** The error to report instead of `error`, which a look into a compressed file has thrown. */
export function unpackingError(name: string, compression: Compression | 'deflate', error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const isEnd = error instanceof TransportError && error.message.startsWith(CHUNK_SERVER_NAME);
  if (!(isEnd || error instanceof ImageError || error instanceof NbdServerError)) return error;
  const why = error.message.replace(LINE, '');
  const check = `get it again, and check it with ${CHECK[compression]}`;
  const next = why.includes('apt-get install') ? '' : `: ${check}`;
  return new ImageError(`cannot decode ${printable(name)} (${compression}): ${why}${next}`, { cause: error });
}
