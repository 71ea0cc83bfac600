// The disk that the NBD server of an image serves.

/** Properties of the disk, for the handshake. */
export interface DiskProperties {
  /** Bytes, below 2^53. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly description: string | undefined;
  /** Bytes: minimum, preferred, maximum of a request. */
  readonly blockSizes: { readonly minimum: number; readonly preferred: number; readonly maximum: number };
  /** Whether a FLUSH on one connection covers the writes of all. */
  readonly canMultiConn: boolean;
  readonly canFlush: boolean;
  readonly canFua: boolean;
  readonly canTrim: boolean;
  readonly canZero: boolean;
  readonly canFastZero: boolean;
  readonly isRotational: boolean;
}

/** Options of a change, as the flags of its NBD command. */
export interface ChangeFlags {
  readonly fua?: boolean;
  readonly noHole?: boolean;
  readonly fastZero?: boolean;
}

/** Whether a rejection of a disk says that the server below is lost: see DiskConnection. */
export const isLost = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'isLost' in error && error.isLost === true;

/** Options of a READ, as the flags of its NBD command. */
export interface ReadFlags {
  readonly df: boolean;
}

/** Bytes of a disk, in parts. */
export type DiskBytes = readonly Uint8Array[];

/** An extent of `base:allocation`. */
export interface AllocationExtent {
  readonly length: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

/**
 * A disk as one client sees it. Rejections carry a property `errno` (positive): the reply of the NBD command. A rejection
 * with `isLost` set means that the server below is lost: the client's connection must end without a reply.
 */
export interface DiskConnection {
  readonly properties: DiskProperties;
  /** The bytes of a range within the disk, in parts, which must not be changed; at once if no wait is needed. */
  read(offset: number, length: number, flags: ReadFlags): DiskBytes | Promise<DiskBytes>;
  /** Counts the bytes of a range that are kept as used (NBD_CMD_CACHE), and fetches nothing. */
  cache(offset: number, length: number): void;
  /** Only where the disk is not read-only; `bytes` belong to the callee until the promise settles. */
  write(offset: number, bytes: Uint8Array, flags: ChangeFlags): Promise<void>;
  zero(offset: number, length: number, flags: ChangeFlags): Promise<void>;
  trim(offset: number, length: number, flags: ChangeFlags): Promise<void>;
  flush(): Promise<void>;
  /**
   * Extents from `offset` on that together have at most `length` bytes, at least one; undefined: the disk knows none.
   * @param isOne whether the first one is enough
   */
  extents(offset: number, length: number, isOne: boolean): Promise<readonly AllocationExtent[]> | undefined;
  /** Calls `listener` once when the server below is lost. */
  onLost(listener: () => void): void;
  close(): void;
}

/** The disk of a server below that has come back after a loss. */
export interface ReturnedDisk {
  readonly readOnly: boolean;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Makes a DiskConnection for each client. */
export interface ServedDisk {
  connect(): Promise<DiskConnection>;
}
