// The interface between the session and its backend, which serves the mounted files: kernel or fuse-native.
//
// Files and connections have numbers from 0. A backend exists once it has mounted; it serves a file from the first
// `attach` on.

import type { ChunkStatus, KeptImage } from '../../chunks/contract/status.js';
import type { Mountpoint } from '../../mount/mountpoint.js';
import type { FuseOptions } from '../../mount/options.js';
import type { OtherPlace, OtherPlaces } from '../../mount/other-places.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type {
  MountEvents,
  PartDescription,
  ReadThreadEvents,
  ServedFile,
  StopOutcome,
  ToWorker,
} from '../../worker/contract/messages.js';
import type { FileStatus } from '../../worker/contract/status.js';
import type { Settings } from '../settings.js';

/** Answers to DirectoryEvents. */
export type DirectoryAnswers = Pick<ToWorker, 'listed' | 'described' | 'refuse'>;

/** A request to mount and serve files. */
export interface BackendRequest {
  readonly settings: Settings;
  readonly mountpoint: Mountpoint;
  readonly options: FuseOptions;
  /** The files that exist from the start; a file's index is its number. */
  readonly files: readonly ServedFile[];
  /** Whether files come and go, by `listed`; `files` is empty then. */
  readonly changing: boolean;
  /** Whether a lost connection can be replaced, so that unflushed writes are worth keeping. */
  readonly reconnectable: boolean;
  /** Whether READs need NBD_CMD_FLAG_DF from the start, since a server that disconnects is lost. */
  readonly wholeReads: boolean;
  /** Whether the bytes of the only file may become complete in a local file: see `usePassthrough`. */
  readonly localCopy: boolean;
  /** Whether the server reads ahead itself: it knows what it has, and a READ of ours ahead could delay an urgent one. */
  readonly serverReadsAhead: boolean;
  /** Maximum number of threads. */
  readonly threads: number;
  readonly events: MountEvents;
}

/** A mounted file system that is being served. */
export interface Backend {
  /** Resolves when kernel and backend have negotiated, and the files can be used. */
  readonly ready: Promise<void>;
  /** Undefined where files cannot come and go. */
  readonly directory: DirectoryAnswers | undefined;
  /** Tells the state of the chunk server behind a file's disk, for its status. Undefined where there is no status. */
  readonly chunksChanged: ((file: number, chunks: ChunkStatus) => void) | undefined;
  /**
   * Lets the data path read the cache file at `path`, as text (see linux/path-text), until a connection of the only file
   * is lost or attached; or not any more, without `image`. `isCurrent` tells whether that is still to be done. Never
   * rejects. Undefined where the chunk server answers all reads.
   */
  readonly readKept:
    | ((path: string, image: KeptImage | undefined, isCurrent: () => boolean) => Promise<void>)
    | undefined;
  /**
   * Shows parts of a file's disk as files, with the numbers after it; resolves when they are there. Undefined where that is
   * not possible.
   */
  readonly showParts: ((file: number, parts: readonly PartDescription[]) => Promise<void>) | undefined;
  /** Gives a file a connection, which belongs to the backend from then on. */
  attach(file: number, connection: number, negotiated: NegotiatedConnection): void;
  /** Waiting and new requests of the file fail with `errno` until a new connection is accepted. */
  fail(file: number, errno: number): void;
  /**
   * Adds a read thread with a connection, which belongs to the backend from then on; `owner` receives its loss. False:
   * that is not safe at the moment, and the caller keeps the connection. Undefined where the backend has one thread only.
   * @throws Error when the thread cannot be started
   */
  readonly addReadThread:
    | ((negotiated: NegotiatedConnection, owner: ReadThreadEvents) => Promise<boolean>)
    | undefined;
  /**
   * Returns a function to call once the server of a file has certainly ended: the server then executes nothing more
   * from the connections that are attached now.
   */
  onServerEnd(file: number): () => void;
  /**
   * An O_PATH descriptor of a file, verified to be in this mount, which belongs to the caller and keeps the mount busy;
   * undefined when the file is gone.
   * @param place another place of the mount, when it is unmounted from its own
   * @throws MountError when something else is mounted there
   */
  open(file: number, place?: OtherPlace): Promise<number | undefined>;
  /** Searches for the other places of the mount. */
  otherPlaces(): Pick<OtherPlaces, 'left'>;
  /**
   * Lets the kernel read the only file without nbdfuse, from a raw file at `path` with all its bytes, which nobody changes
   * from now on; at any time. Programs that have the file open go on as before. Resolves with undefined, or with the reason
   * why the kernel does not; never rejects. A line for --verbose has said so, too.
   */
  usePassthrough(path: string): Promise<string | undefined>;
  /** The status of each file; empty where the backend keeps no counters. */
  status(): Promise<readonly FileStatus[]>;
  /**
   * Unmounts. If not lazy, the kernel writes out its cache first, which needs a running backend.
   * @throws an error with `errno` EBUSY when the mount is in use
   */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
  /** Finishes pending requests, flushes, disconnects, and ends, within about `milliseconds`. */
  stop(milliseconds: number): Promise<StopOutcome>;
}

/** A backend that starts while the session still connects to the server. */
export interface PreparedBackend {
  /** Mounts. @throws MountError */
  start(request: BackendRequest): Promise<Backend>;
  /** Undoes the preparation; harmless after a started backend has ended. */
  discard(): Promise<void>;
}
