// The interface of the part that keeps the files connected: SingleFileKeeper, or ExportDirectoryKeeper with --all.
//
// Made by start.ts, driven by it and by the session.

import type { NegotiatedConnection } from '../transport/connection.js';
import type { ConnectionEvents, DirectoryEvents } from '../worker/contract/messages.js';
import type { Backend } from './backend/backend.js';
import type { Reconnector } from './connect/reconnect.js';

/** A file and its reconnector. */
export interface Served {
  /** The backend's number of the file. */
  readonly file: number;
  /** Absolute path. */
  readonly path: string;
  readonly reconnector: Reconnector<NegotiatedConnection>;
}

/** See the file's head. */
export interface FileKeeper extends ConnectionEvents, Partial<DirectoryEvents> {
  /** Gives a backend that has just mounted what it needs to become ready. */
  begin(backend: Backend): void;
  /** The files can be used. Resolves when the additional connections have arrived, or soon. */
  ready(): Promise<void> | void;
  /** The files that have connections, or wait for them. */
  served(): readonly Served[];
}
