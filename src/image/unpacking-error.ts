// Why nbdkit cannot unpack a compressed file, and what to do. Pure.
//
// nbdkit speaks of its parameters, over several lines, or ends without a word. Used by prepare.ts.

import { NbdError, NbdServerError } from '../nbd/errors.js';
import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import type { Compression } from './formats.js';

const RECOMPRESS = 'recompress it in blocks, with xz --block-size=16MiB';

/** The error for a file of several `parts`, of which nbdkit's filter reads only the first. @param shown printable */
export function onlyFirst(shown: string, compression: Compression, parts: string): ImageError {
  return new ImageError(
    `${shown} has several ${compression} ${parts}, and nbdkit reads only the first: ` +
      `unpack it first (${compression} -d), or ${RECOMPRESS}`,
  );
}

/** nbdkit's last line about a block that is longer than its limit. */
const LARGEST = /largest block in xz file = (\d+)/;
const MIB = 1024 * 1024;

/** The error to report instead of `error`, which a look through nbdkit's filter has thrown. */
export function unpackingError(name: string, compression: Compression, error: unknown): unknown {
  const shown = printable(name);
  const { message } = error instanceof Error ? error : new Error(String(error));
  const block = Number(LARGEST.exec(message)?.[1] ?? Number.NaN);
  if (!Number.isNaN(block)) {
    const size = `${Math.ceil(block / MIB)} MiB`;
    const why = `${shown} has an xz block of ${size}, and nbdkit unpacks at most 512 MiB at once`;
    return new ImageError(`${why}: ${RECOMPRESS}, or unpack it first (xz -d)`, { cause: error });
  }
  if (error instanceof ImageError || error instanceof NbdServerError) {
    const why = message.replace(/^nbdkit: (?:\w+\[\d+\]: )?(?:error: )?/, '');
    const check = `get it again, and check it with ${compression} -t`;
    return new ImageError(`nbdkit cannot unpack ${shown} (${why}): ${check}`, { cause: error });
  }
  if (!(error instanceof NbdError)) return error;
  const why = compression === 'xz' ? ', which may have stream padding' : '';
  return new ImageError(`nbdkit failed while it unpacked ${shown}${why}: ${RECOMPRESS}`, { cause: error });
}
