// The facts that a cache file remembers of the image at a URL, for a mount without a network.
//
// Used by prepare.ts.

import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import type { Compression } from './formats.js';
import type { ChunkSettings } from './keep-request.js';
import { recordedName, shownOf, type WebSource } from './source.js';
import { conditionFor } from './web.js';

/** A file of a web server as it was when it was read. */
interface Remembered {
  readonly compression: Compression | undefined;
  /** Empty where it makes no condition: the chunk server compares the content, and no versions, then. */
  readonly version: string;
  /** See WebSource. */
  readonly condition: string | undefined;
}

/**
 * The content of the cache file of these settings for a source; undefined: nothing.
 * @throws ImageError when it has only a part of the source
 */
export async function remembered(
  source: WebSource,
  { cacheFile }: ChunkSettings,
): Promise<Remembered | undefined> {
  if (cacheFile === undefined) return undefined;
  const { savedIdentity } = await import('../chunks/cache/saved-identity.js');
  const saved = await savedIdentity(cacheFile);
  if (saved?.identity.source !== recordedName(source)) return undefined;
  const { version } = saved.identity;
  const [coding, ...part] = saved.identity.coding.split(' ');
  if (part.length > 0)
    throw new ImageError(
      `cannot reach ${shownOf(source)}, and ${printable(cacheFile)} is the cache of a part of it ` +
        '(--partition or --member): mount it again when the server is back',
    );
  const compression = coding === 'plain' ? undefined : (coding as Compression);
  const condition = conditionFor(version);
  return { compression, version: condition === undefined ? '' : version, condition };
}
