// The chunk server of a mount, from the command line of its server. Pure.

import { CHUNK_SERVER, chunkServerOptions } from './chunk-program.js';
import { bareWords } from './confine.js';

const CACHE_FILE = '--cache-file=';

/**
 * The path of the cache file that holds the bytes of a server's export, once it is complete. Undefined where there is
 * none: the server is not the chunk server, has no cache file, or has another server on top, whose bytes are others.
 */
export function exportedCacheFile(argv: readonly string[]): string | undefined {
  return ownOptions(argv)
    ?.find((word) => word.startsWith(CACHE_FILE))
    ?.slice(CACHE_FILE.length);
}

/** The options of a chunk server that answers the clients itself; undefined: another server does. */
function ownOptions(argv: readonly string[]): readonly string[] | undefined {
  const words = bareWords(argv);
  if (words[1] !== CHUNK_SERVER) return undefined;
  const options = chunkServerOptions(words) ?? [];
  const end = options.indexOf('--');
  const own = options.slice(0, end < 0 ? undefined : end);
  return own.some((word) => word.startsWith('--run=')) ? undefined : own;
}

/** Whether the server is a chunk server that answers its clients itself. */
export const isChunkServer = (argv: readonly string[]): boolean => ownOptions(argv) !== undefined;
