// Makes the connections of one open server: the interface of all kinds of target.
//
// Implemented by the class below, command.ts, socket-activation.ts and ssh.ts; used by server.ts alone.

import type { Duplex } from 'node:stream';
import { currentDirectory } from '../linux/path.js';
import type { Child } from './child.js';

import { type DialTarget, dial } from './dial.js';
import { TransportError } from './errors.js';

/** Makes connected streams, before the handshake. */
export interface Source {
  /** Whether `connect` may be called again after a connection was lost, without a restart. */
  readonly reconnectable: boolean;
  /** Whether there can be only one connection at a time. */
  readonly singleConnection: boolean;
  /** The server's child process; undefined where it has none. */
  readonly child: Child | undefined;
  /** The path of a chunk server's second socket; undefined where the server has none. */
  readonly controlPath?: string | undefined;
  connect(signal: AbortSignal): Promise<Duplex>;
  /** Starts a new child; undefined where the server is not our child. */
  restart?(): Promise<void>;
  /** Ends the processes that `open` and `connect` have started; the callers own the streams. */
  close(): Promise<void>;
}

/** Receives the standard error of children. */
export type StderrSink = (chunk: Buffer) => void;

/** A server that already runs. */
export class DialledSource implements Source {
  readonly reconnectable: boolean;
  readonly singleConnection: boolean;
  readonly child = undefined;
  readonly #target: DialTarget;
  /** This process may change its current directory before it connects again. */
  readonly #directory = currentDirectory();
  #used = false;

  constructor(target: DialTarget) {
    this.#target = target;
    this.singleConnection = target.kind === 'fd';
    this.reconnectable = !this.singleConnection;
  }

  async connect(signal: AbortSignal): Promise<Duplex> {
    if (this.singleConnection && this.#used) {
      throw new TransportError('an inherited descriptor is one connection; it cannot be opened again');
    }
    this.#used = true;
    return dial(this.#target, signal, this.#directory);
  }

  async close(): Promise<void> {}
}
