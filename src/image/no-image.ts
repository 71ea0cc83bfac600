// Files that cannot be images whatever they hold: directories, and files of the kernel that have bytes but no size.
//
// Used by prepare.ts.

import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { printable } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { ImageError } from './errors.js';
import { isDisk } from './members.js';

/** Maximum names in a message. */
const MAX_NAMES = 3;

/** The error of a directory in the place of an image; it names the images in it. */
export async function directoryError(path: string): Promise<ImageError> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((one) => !one.isDirectory()).map(({ name }) => name);
  const is = `${printable(path)} is a directory, not an image`;
  if (entries.some(({ name }) => name === 'bands') && names.includes('Info.plist'))
    return new ImageError(
      `${is}: a sparse bundle of macOS must be converted where it was made (hdiutil convert)`,
    );
  const disks = names.filter((name) => isDisk(name, Buffer.alloc(0))).sort();
  if (disks.length === 0) return new ImageError(`${is}: name a file, a block device or a URL`);
  const shown = disks.slice(0, MAX_NAMES).map((name) => printable(join(path, name)));
  return new ImageError(
    `${is}: name a file in it, as ${shown.join(', ')}${disks.length > MAX_NAMES ? ', …' : ''}`,
  );
}

/** @throws ImageError when a file of size 0 has bytes: no server could find its end, or read a part of it */
export async function refuseUnsized(path: string): Promise<void> {
  const shown = printable(path);
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw new ImageError(`cannot read ${shown}: ${reasonOf(error)}`, { cause: error });
  });
  try {
    const { bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, 0).catch(() => ({ bytesRead: 0 }));
    if (bytesRead === 0) return;
  } finally {
    await handle.close();
  }
  throw new ImageError(`${shown} has no size, as the files of /proc: copy it first, and mount the copy`);
}
