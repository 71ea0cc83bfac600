// The error of a qemu-nbd that cannot open an image: QEMU's reason without its tree of nodes in JSON. Pure.

import { withoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';

/** QEMU's words: `Failed to blk_new_open 'json:{…}': REASON`. */
const FAILURE = /Failed to blk_new_open '.*?\}': (?:Could not open '[^']*': )?(.*)$/s;

/** The error with QEMU's reason; any other error as it is. @param name of the image, as typed */
export function explainedOpen(error: unknown, name: string): unknown {
  const why = FAILURE.exec(error instanceof Error ? error.message : '')?.[1];
  if (why === undefined) return error;
  const reason = why.replace(/\.$/, '');
  return new ImageError(
    `qemu-nbd cannot open ${withoutSecrets(printable(name))}: ${reason}; check it with qemu-img check`,
    { cause: error },
  );
}
