// What the session needs of whatever serves the mounted files: the kernel backend or fuse-native.
//
// Files and connections are named by their numbers from 0. A backend has mounted when it exists, and
// serves from the first `attach` on.

import type { Mountpoint } from '../../mount/mountpoint.js';
import type { FuseOptions } from '../../mount/options.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type {
  ConnectionEvents,
  DirectoryEvents,
  ServedFile,
  StopOutcome,
  ToWorker,
} from '../../worker/contract/messages.js';
import type { FileStatus } from '../../worker/contract/status.js';
import type { Settings } from '../settings.js';

/** Answers to DirectoryEvents. */
export type DirectoryAnswers = Pick<ToWorker, 'listed' | 'described' | 'refuse'>;

/** Events of a backend. */
export interface BackendEvents {
  /** Receives what concerns the files' connections, and with --all their directory. */
  readonly files: ConnectionEvents & Partial<DirectoryEvents>;
  /** One line for the user. */
  warning(text: string): void;
  /** The connection of a read thread is lost; the worker has taken over its requests. */
  readThreadLost(why: string): void;
  /** The file system was unmounted by somebody else. */
  unmounted(): void;
  /** A defect has ended the backend. @param text maybe with a stack */
  crashed(text: string): void;
}

/** A request to mount and serve files. */
export interface BackendRequest {
  readonly settings: Settings;
  readonly mountpoint: Mountpoint;
  readonly options: FuseOptions;
  /** Shown and connected from the start, with their places as numbers. */
  readonly files: readonly ServedFile[];
  /** Whether files come and go, told by `listed`: then there are none at the start. */
  readonly changing: boolean;
  /** Whether a lost connection can be made again, so that writes are worth remembering. */
  readonly reconnectable: boolean;
  /** Threads that may serve it. */
  readonly threads: number;
  readonly events: BackendEvents;
}

/** A mounted file system that is being served. */
export interface Backend {
  /** Resolves when kernel and backend have agreed, so that the files can be used. */
  readonly ready: Promise<void>;
  /** Undefined where files cannot come and go. */
  readonly directory: DirectoryAnswers | undefined;
  /** Gives a file a connection, which belongs to the backend from then on. */
  attach(file: number, connection: number, negotiated: NegotiatedConnection): void;
  /** Requests that wait for a connection, and new ones, get `errno` until the next `attach`. */
  fail(file: number, errno: number): void;
  /**
   * Lets one more thread read, over a connection that belongs to the backend from then on. False: that is not safe at
   * the moment, and the connection is still the caller's. Undefined where one thread is all there is.
   * @throws Error when the system refuses
   */
  readonly addReadThread: ((negotiated: NegotiatedConnection) => Promise<boolean>) | undefined;
  /**
   * To be called when the server of a file has ended for certain: what it was sent on the connections that have been
   * attached by now will not be carried out any more.
   */
  onServerEnd(file: number): () => void;
  /**
   * An O_PATH descriptor of a file, proven to lie in this mount, which belongs to the caller and keeps the mount busy;
   * undefined when the file is shown no more. @throws MountError when something else is mounted there
   */
  open(file: number): Promise<number | undefined>;
  /** What can be seen of each file now; nothing where the backend does not count. */
  status(): Promise<readonly FileStatus[]>;
  /**
   * Unmounts. Not lazily: what the kernel still holds is written first, which needs the backend alive.
   * @throws an error with `errno` EBUSY when it is in use
   */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
  /** Lets what is under way end, flushes, disconnects, and ends, within about `milliseconds`. */
  stop(milliseconds: number): Promise<StopOutcome>;
}

/** A backend that has begun to start, before it is known whether there will be something to mount. */
export interface PreparedBackend {
  /** Mounts. @throws MountError */
  start(request: BackendRequest): Promise<Backend>;
  /** Takes the preparations back; harmless when what was started has ended. */
  discard(): Promise<void>;
}
