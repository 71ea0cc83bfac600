// The interface between the session and its backend, which serves the mounted files: kernel or fuse-native.
//
// Files and connections have numbers from 0. A backend exists once it has mounted; it serves a file from the first
// `attach` on.

import type { LossOutcome } from '../bridge/bridge.js';
import type { FileStatus, ListChange, StopOutcome } from '../bridge/messages.js';
import type { Mountpoint } from '../mount/mountpoint.js';
import type { FuseOptions } from '../mount/options.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Settings } from './settings.js';

export type { LossOutcome } from '../bridge/bridge.js';

/** One file to serve. */
export interface ServedFile {
  /** Name in the directory, or empty where the file itself is the mountpoint. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Undefined: not known yet. */
  readonly info: ExportInfo | undefined;
  /** The server as the user named it, for the status. */
  readonly server: string;
  readonly tls: boolean;
}

/** Requests of a backend whose files come and go. A file's number is never reused. */
export interface FolderEvents {
  /** The backend wants a newer list. Answer with `listed`, soon: a program waits for it. */
  listWanted(): void;
  /** A program opens a file. Answer with `attach` or `refuse`. The event may repeat. */
  wanted(file: number): void;
  /** A program looks up a file whose `info` is unknown. Answer with `described`. */
  descriptionWanted(file: number): void;
  /** A file has closed its connections; it wants new ones when it is opened again. */
  idle(file: number): void;
}

/** The answers to FolderEvents. */
export interface FolderAnswers {
  /** A new list. The session sends the first one unasked. */
  listed(change: ListChange): void;
  /** @param errno 0, or why the description failed */
  described(file: number, served: ServedFile, errno: number): void;
  refuse(file: number, errno: number): void;
}

/** Events of a backend. */
export interface BackendEvents extends FolderEvents {
  /** A connection has ended; its unanswered requests wait. */
  lost(file: number, connection: number, why: string, outcome: LossOutcome): void;
  /** The backend uses an attached connection, which leads to the same disk as far as it can tell. */
  accepted(file: number, connection: number): void;
  /** One line for the user. */
  warning(text: string): void;
  /** Reads saturate the worker: add a read thread with `Backend.addReader`. */
  readerWanted(): void;
  /** The connection of a read thread has ended; the worker has taken over its requests. */
  readerLost(why: string): void;
  /** Another process has unmounted the file system. */
  unmounted(): void;
  /** The backend has crashed; the text may include a stack. */
  crashed(text: string): void;
}

/** The start parameters of a backend. */
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
  /** Maximum number of threads. */
  readonly threads: number;
  readonly events: BackendEvents;
}

/** A mounted file system that is being served. */
export interface Backend {
  /** Resolves when kernel and backend have negotiated, and the files can be used. */
  readonly ready: Promise<void>;
  /** Undefined where files cannot come and go. */
  readonly folder: FolderAnswers | undefined;
  /** Gives a file a connection, which belongs to the backend from then on. */
  attach(file: number, connection: number, negotiated: NegotiatedConnection): void;
  /** Waiting and new requests of the file fail with `errno` until the next `attach`. */
  fail(file: number, errno: number): void;
  /**
   * Adds a read thread with a connection, which belongs to the backend from then on. False: that is not safe at the
   * moment, and the caller keeps the connection. Undefined where the backend has one thread only.
   * @throws Error when the thread cannot be started
   */
  readonly addReader: ((negotiated: NegotiatedConnection) => Promise<boolean>) | undefined;
  /**
   * Returns a function to call once the server of a file has certainly ended: the server then executes nothing more
   * from the connections that are attached now.
   */
  onServerEnd(file: number): () => void;
  /**
   * An O_PATH descriptor of a file, verified to be in this mount, which belongs to the caller and keeps the mount busy;
   * undefined when the file is gone. @throws MountError when something else is mounted there
   */
  open(file: number): Promise<number | undefined>;
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
