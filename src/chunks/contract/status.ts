// The lines of JSON that the chunk server sends to nbdfuse on its control socket.

/** Processes that carry out changes of the disk. */
export interface Writers {
  readonly pids: readonly number[];
  /** Groups of processes, with all that are in them. */
  readonly groups: readonly number[];
}

/** The state of the chunk server; sent when somebody connects, and at most twice a second while it changes. */
export interface ChunkStatus {
  /** Decoded bytes of the image; undefined: not known yet. */
  readonly size: number | undefined;
  /** Units in memory, and their limit, in bytes. */
  readonly memory: { readonly used: number; readonly limit: number };
  /** The cache file; undefined: there is none, or it has failed. */
  readonly file:
    | {
        readonly path: string;
        /** Bytes that are in it. */
        readonly used: number;
        readonly limit: number | undefined;
        readonly complete: boolean;
      }
    | undefined;
  /** A pass over the whole file that finds its restart points: compressed bytes done, and all. */
  readonly indexing: { readonly done: number; readonly all: number } | undefined;
  /** Prefetching: bytes of the image that are there, and all. */
  readonly prefetch:
    | {
        readonly done: number;
        readonly all: number;
        /** Why it has ended before all is there, in words. */
        readonly stopped?: string | undefined;
      }
    | undefined;
  /** Requests for units that were there, and for units that were not. */
  readonly hits: number;
  readonly misses: number;
  /** Compressed bytes that were fetched. */
  readonly fetched: number;
}

/** The cache file of a disk that is only read, for a process that reads it beside the chunk server. */
export interface KeptImage {
  /** The random number of the cache, as 16 hexadecimal digits. */
  readonly nonce: string;
  /** Bytes of the image, at least one. */
  readonly size: number;
  /** Bytes of the image before the disk. */
  readonly offset: number;
}

/** A line of the control socket. */
export interface ControlLine extends ChunkStatus {
  /** Undefined: there is no cache file, or the disk is writable. */
  readonly kept: KeptImage | undefined;
  /** The processes below that may carry out changes of the clients that have connected last; undefined: unknown. */
  readonly writers: Writers | undefined;
}
