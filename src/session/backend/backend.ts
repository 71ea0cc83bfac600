// What the session needs of whatever serves the mounted files: the kernel backend or fuse-native.
//
// Files and connections are named by their numbers from 0. A backend has mounted when it exists, and
// serves from the first `attach` on.

import type { Mountpoint } from '../../mount/mountpoint.js';
import type { FuseOptions } from '../../mount/options.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type { ListChange, StopOutcome } from '../../worker/contract/messages.js';
import type { FileStatus } from '../../worker/contract/status.js';
import type { LossOutcome } from '../../worker/host/worker-handle.js';
import type { Settings } from '../settings.js';

export type { LossOutcome } from '../../worker/host/worker-handle.js';

/** One file to serve. */
export interface ServedFile {
  /** Name in the directory, or empty where the file itself is the mountpoint. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Undefined: not known yet. */
  readonly info: ExportInfo | undefined;
  /** How the user named the server, for who asks. */
  readonly server: string;
  readonly tls: boolean;
}

/** What a backend asks for where files come and go; files are named by numbers that are never used twice. */
export interface FolderEvents {
  /** Is there a newer list? Answer with `listed`, in a time that somebody can wait for. */
  listWanted(): void;
  /** Somebody opens a file: answer with `attach` or `refuse`. It may be asked again. */
  wanted(file: number): void;
  /** Somebody looks at a file whose `info` is not known: answer with `described`. */
  descriptionWanted(file: number): void;
  /** A file has let go of its connections; it wants others when it is opened again. */
  idle(file: number): void;
}

/** The answers to FolderEvents. */
export interface FolderAnswers {
  /** The first list comes unasked. */
  listed(change: ListChange): void;
  /** @param errno 0, or why it cannot be had */
  described(file: number, served: ServedFile, errno: number): void;
  refuse(file: number, errno: number): void;
}

/** What a backend tells of by itself. */
export interface BackendEvents extends FolderEvents {
  /** A connection has ended; what was not answered waits. */
  lost(file: number, connection: number, why: string, outcome: LossOutcome): void;
  /** A connection that was attached leads to the same disk as ever, as far as can be told, and is used. */
  accepted(file: number, connection: number): void;
  /** Something that a person should read: one line. */
  warning(text: string): void;
  /** One thread is not enough: give it a connection, with `Backend.addReader`. */
  readerWanted(): void;
  /** The connection of a further thread has ended; the others have taken over what it was asked. */
  readerLost(why: string): void;
  /** Somebody has unmounted the file system. */
  unmounted(): void;
  /** The backend has died of a defect: one text, maybe with a stack. */
  crashed(text: string): void;
}

/** What a backend is started with. */
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
  readonly folder: FolderAnswers | undefined;
  /** Gives a file a connection, which belongs to the backend from then on. */
  attach(file: number, connection: number, negotiated: NegotiatedConnection): void;
  /** Requests that wait for a connection, and new ones, get `errno` until the next `attach`. */
  fail(file: number, errno: number): void;
  /**
   * Lets one more thread read, over a connection that belongs to the backend from then on. False: that is not safe at
   * the moment, and the connection is still the caller's. Undefined where one thread is all there is.
   * @throws Error when the system refuses
   */
  readonly addReader: ((negotiated: NegotiatedConnection) => Promise<boolean>) | undefined;
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
