// The identity of the image that a cache file records, read without opening it for use.

import { open } from 'node:fs/promises';
import { pathBytes } from '../../linux/path-text.js';
import type { Identity } from '../contract/cache.js';
import { decodeHeader, HEADER, indexPath } from './cache-index.js';

/** The identity of the image of a cache file, and the bytes of the image. */
export interface SavedIdentity {
  readonly identity: Identity;
  readonly size: number;
}

/** The image that a cache file is of; undefined: there is no cache, or it cannot be read. */
export async function savedIdentity(path: string): Promise<SavedIdentity | undefined> {
  const handle = await open(pathBytes(indexPath(path)), 'r').catch(() => undefined);
  if (handle === undefined) return undefined;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER), 0, HEADER, 0);
    const found = decodeHeader(buffer.subarray(0, bytesRead));
    return found.kind === 'header' ? { identity: found.header.identity, size: found.header.size } : undefined;
  } catch {
    return undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Whether a source has the image of a cache file, by all but what the server said of its version.
 * @param found has the digest of a compressed file as its version, which may follow that of the server in `saved`; of
 * another file it has none: compare bytes, too
 */
export const isAlike = (saved: Identity, found: Identity): boolean =>
  isSameImage({ ...saved, version: found.version }, found) &&
  ['', saved.version, saved.version.split(' ').at(-1)].includes(found.version);

/** Whether two identities are of the same image. */
export const isSameImage = (a: Identity, b: Identity): boolean =>
  a.source === b.source && a.coding === b.coding && a.fileSize === b.fileSize && a.version === b.version;
