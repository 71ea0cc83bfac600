// What the session needs of whatever keeps its files connected: one disk, or a folder of exports.
//
// Made by start.ts, driven by it and by the session.

import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, FolderEvents, LossOutcome } from './backend/backend.js';
import type { Reconnector } from './connect/reconnect.js';

/** A file with what keeps it connected. */
export interface Served {
  /** The backend's number of it. */
  readonly file: number;
  /** Absolute path. */
  readonly path: string;
  readonly reconnector: Reconnector<NegotiatedConnection>;
}

/** See the file's head. */
export interface FileKeeper extends Partial<FolderEvents> {
  /** Gives a backend that has just mounted what it needs to become ready. */
  begin(backend: Backend): void;
  /** The files can be used. Resolves when what is on its way has come, or soon. */
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
