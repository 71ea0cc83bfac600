// Refuses a parallels disk with snapshots: each file holds only a part of the disk, and QEMU reads one file.
//
// Used by prepare.ts. No header names the other files; the file DiskDescriptor.xml beside them does.

import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';

/** Maximum bytes of a descriptor that is read. */
const MAX_DESCRIPTOR = 1024 * 1024;

/** The number of image files in a descriptor; each snapshot adds one. */
function imagesIn(descriptor: string): number {
  return descriptor.match(/<Image>/g)?.length ?? 0;
}

/** @throws ImageError when a descriptor beside the image lists several files */
export async function refuseParallelsLayer(path: string): Promise<void> {
  const descriptor = join(dirname(path), 'DiskDescriptor.xml');
  const found = await stat(descriptor).catch(() => undefined);
  if (found === undefined || !found.isFile() || found.size > MAX_DESCRIPTOR) return;
  const text = await readFile(descriptor, 'utf8').catch(() => '');
  const count = imagesIn(text);
  if (count < 2) return;
  throw new ImageError(
    `${printable(path)} is one of ${count} files of a disk with snapshots, and QEMU opens only one: ` +
      'merge them where it was made (prl_disk_tool merge)',
  );
}
