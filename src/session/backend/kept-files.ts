// Opens a cache file and its index for the worker, which reads them beside their chunk server.
//
// The bytes in them prove themselves: see chunks/cache/part-reader.

import { fstat, open } from 'node:fs';
import { promisify } from 'node:util';
import { indexPath, isChecksumFast } from '../../chunks/cache/cache-index.js';
import type { KeptImage } from '../../chunks/contract/status.js';
import { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } from '../../constants/open-flags.js';
import { libc } from '../../linux/libc.js';
import { pathBytes } from '../../linux/path-text.js';
import type { KeptFiles } from '../../worker/contract/messages.js';

const openDescriptor = promisify(open);
const stateOf = promisify(fstat);

/** Opens a file of this user, as the chunk server did. Undefined: there is none. */
async function openOwn(
  path: string,
): Promise<{ readonly descriptor: number; readonly size: number } | undefined> {
  const descriptor = await openDescriptor(pathBytes(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(
    () => undefined,
  );
  if (descriptor === undefined) return undefined;
  const state = await stateOf(descriptor).catch(() => undefined);
  if (state?.isFile() === true && state.uid === process.geteuid?.()) return { descriptor, size: state.size };
  libc.close(descriptor);
  return undefined;
}

/** Opens FILE at `path`, as text (see linux/path-text), and FILE.index. Undefined: the chunk server has to read them. */
export async function openKept(path: string, image: KeptImage): Promise<KeptFiles | undefined> {
  if (!isChecksumFast) return undefined;
  const [data, index] = [await openOwn(path), await openOwn(indexPath(path))];
  if (data !== undefined && index !== undefined && data.size === image.size)
    return { image, data: data.descriptor, index: index.descriptor };
  for (const file of [data, index]) if (file !== undefined) libc.close(file.descriptor);
  return undefined;
}
