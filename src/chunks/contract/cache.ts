// The file that keeps the units of an image for the next mount.

/** Which image a cache belongs to. Two identities are the same if all fields are equal. */
export interface Identity {
  /** The name of the source: an absolute path, a URL without secrets, or a URI with its export. */
  readonly source: string;
  /** How it is decoded, and which part of it is served. */
  readonly coding: string;
  /** Bytes of the source's file. */
  readonly fileSize: number;
  /** ETag or Last-Modified; mtime and inode of a file; of other compressed files a digest; otherwise empty. */
  readonly version: string;
}

/** Restart points and size that an earlier pass found; opaque to the cache file. */
export type SavedIndex = Uint8Array;

/** An open cache file. Nothing here throws because of the disk: a cache that fails is closed and says why once. */
export interface UnitFile {
  /** The number of units that it holds. */
  readonly count: number;
  /** The random number of this cache, as 16 hexadecimal digits: see KeptImage. Undefined: the cache has failed. */
  readonly nonce: string | undefined;
  /** Whether it holds all units. */
  readonly isComplete: boolean;
  has(unit: number): boolean;
  /** The units that it holds, without those that are about to be written. */
  units(): Iterable<{ readonly unit: number; readonly isZero: boolean }>;
  /**
   * The bytes of a unit from `from` up to `to`, checked (default: all of them); undefined: the unit is not there, or a
   * checksum of these bytes is wrong (it is dropped then).
   */
  read(unit: number, from?: number, to?: number): Promise<Uint8Array | undefined>;
  /** The same bytes, if they are few and in memory; undefined: `read` must get them, or knows why there are none. */
  readNow(unit: number, from: number, to: number): Uint8Array | undefined;
  /** Notes a use of a unit. False: it is not there. */
  touch(unit: number): boolean;
  /**
   * Keeps a unit, in the background; `bytes` must not change afterwards, and must not be older than the last `drop` of
   * the unit. The least recently used go when it is full. When the disk is slower than the caller, units are left out.
   */
  write(unit: number, bytes: Uint8Array): void;
  /** Whether the disk is so slow that further units would soon be left out. */
  readonly isBehind: boolean;
  /** Counts the units that were left out for that. */
  readonly leftOut: number;
  /** Why it takes no further unit, in words; undefined: it does. */
  readonly refusal: string | undefined;
  /** Maximum bytes of units on disk; Infinity: all of the image. */
  readonly limit: number;
  /** Bytes that further units may take on disk before others go for them, as far as known while `isWriting`. */
  readonly free: number;
  /** Whether units are on their way to the disk, or from it. */
  readonly isWriting: boolean;
  /**
   * Forgets units whose bytes change; they count as absent as soon as this returns.
   * @returns undefined: the bytes may change; otherwise only when it resolves, or a power failure would leave the old
   * ones valid. It rejects, with a property `errno`, when the disk cannot remember that: the bytes must not change then.
   */
  drop(first: number, count: number): Promise<void> | undefined;
  /** The saved index, if there is one. */
  readonly index: SavedIndex | undefined;
  saveIndex(index: SavedIndex): void;
  /** The order of units that an earlier mount asked for, and the one to save: see trace. */
  readonly trace: Uint32Array | undefined;
  saveTrace(trace: Uint32Array): void;
  /** Resolves when all that was written is on stable storage. */
  flush(): Promise<void>;
  close(): Promise<void>;
}
