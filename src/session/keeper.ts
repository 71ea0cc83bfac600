// The interface of the part that keeps the files connected: DiskKeeper for one file, ExportFolder for --all.
//
// Made by start.ts, driven by it and by the session.

import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, FolderEvents, LossOutcome } from './backend.js';
import type { Reconnector } from './reconnect.js';

/** A file and its reconnector. */
export interface Served {
  /** The backend's number of the file. */
  readonly file: number;
  /** Absolute path. */
  readonly path: string;
  readonly reconnector: Reconnector<NegotiatedConnection>;
}

/** See the file's head. */
export interface Keeper extends Partial<FolderEvents> {
  /** Gives a new backend its first connection or list, so that it becomes ready. */
  begin(backend: Backend): void;
  /** The files can be used. Resolves when the additional connections have arrived, or soon. */
  ready(): Promise<void> | void;
  /** A connection has ended: see BackendEvents. */
  lost(file: number, connection: number, why: string, outcome: LossOutcome): void;
  /** A connection is used: see BackendEvents. */
  accepted(file: number, connection: number): void;
  /** See BackendEvents. */
  readerWanted?(): void;
  readerLost?(why: string): void;
  /** The files that have connections, or wait for them. */
  served(): readonly Served[];
}
