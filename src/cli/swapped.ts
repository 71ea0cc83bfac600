// Recognizes MOUNTPOINT and IMAGE in the wrong order, once the image cannot be opened.

import { statSync } from 'node:fs';
import { pathBytes } from '../linux/path-text.js';
import { shellLine } from '../linux/shell.js';
import { printable } from '../nbd/text.js';

const look = (path: string) => {
  try {
    return statSync(pathBytes(path));
  } catch {
    return undefined;
  }
};

/** Whether a path names bytes that somebody may want to mount. */
function holdsBytes(path: string): boolean {
  const found = look(path);
  return found !== undefined && (found.isBlockDevice() || (found.isFile() && found.size > 0));
}

/** `error` about an image, or a better one if the words are most likely in the wrong order. */
export function explainedOrder(error: unknown, image: string, mountpoint: string): unknown {
  const found = look(image);
  const isMountpoint = found === undefined ? !image.includes('://') : found.isDirectory();
  if (!isMountpoint || !holdsBytes(mountpoint)) return error;
  const what =
    found === undefined ? `there is no file ${printable(image)}` : `${printable(image)} is a directory`;
  const line = shellLine(['nbdfuse', image, mountpoint]);
  return new Error(`${what}, and ${printable(mountpoint)} is a file: MOUNTPOINT comes first: ${line}`, {
    cause: error,
  });
}
