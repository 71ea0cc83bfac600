// What to keep of the bytes of an image, and what to fetch before it is read. Pure.

/** The settings with which a user keeps bytes of an image. */
export interface ChunkSettings {
  /** The absolute path of the cache file. */
  readonly cacheFile?: string | undefined;
  /** Maximum bytes in the cache file. */
  readonly cacheSize?: number | undefined;
  /** Maximum bytes in memory. */
  readonly cacheMemory?: number | undefined;
  /** Fills the cache in the background, with so many bytes a second; Infinity: as fast as possible. */
  readonly prefetch?: number | undefined;
  /** The absolute path of the file with the order of reads. */
  readonly trace?: string | undefined;
}

/** What to keep, as typed. */
export interface KeepRequest extends ChunkSettings {
  /** The directory of cache files that nbdfuse names. */
  readonly cacheDir?: string | undefined;
}

/** Whether the user wants more than memory: something that outlives the mount, or reads of their own. */
export function keepsMore({ cacheFile, prefetch, trace }: ChunkSettings): boolean {
  return cacheFile !== undefined || prefetch !== undefined || trace !== undefined;
}

/** Whether a request wants more than memory. */
export const wantsKept = (request: KeepRequest): boolean =>
  request.cacheDir !== undefined || keepsMore(request);
