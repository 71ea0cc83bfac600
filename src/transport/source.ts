// Where the connections of one open server come from: the one interface of all targets.
//
// Implemented by the class below, command.ts, socket-activation.ts and ssh.ts; used by server.ts alone.

import type { Duplex } from 'node:stream';
import type { Child } from './child.js';

import { type DialTarget, dial } from './dial.js';
import { TransportError } from './errors.js';

/** Gives connected streams at the very start of the protocol. */
export interface Source {
  /** Whether `connect` may be called again after a connection was lost, without a restart. */
  readonly reconnectable: boolean;
  /** Whether there can be one connection only at any time. */
  readonly singleConnection: boolean;
  /** The child that serves; undefined where the server is not ours. */
  readonly child: Child | undefined;
  connect(signal: AbortSignal): Promise<Duplex>;
  /** Starts the child anew; undefined where the server is not ours. */
  restart?(): Promise<void>;
  /** Ends what `open` and `connect` have started; streams are the business of whoever took them. */
  close(): Promise<void>;
}

/** What a source does with the standard error of its children. */
export type StderrSink = (chunk: Buffer) => void;

/** A server that runs somewhere already. */
export class DialledSource implements Source {
  readonly reconnectable: boolean;
  readonly singleConnection: boolean;
  readonly child = undefined;
  readonly #target: DialTarget;
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
    return dial(this.#target, signal);
  }

  async close(): Promise<void> {}
}
