// The main thread's handle of the readers: starting them when they are wanted, and ending them.
//
// Owned by a Bridge. A reader that has lost its connection stays, without work, until it is given another. The
// clones of the device belong to this object: the worker answers on them too, so they are closed when it has ended.

import type { Worker } from 'node:worker_threads';
import type { ExportInfo } from '../nbd/export-info.js';
import { addressOf, libc } from '../os/libc.js';
import { cloneFuseDevice } from '../os/mount.js';
import { pipe } from '../os/pipe.js';
import { forgetSecrets } from '../tls/take-over.js';
import type { ConnectedSocket } from './bridge.js';
import type { FromReader, ReaderSettings, ToReader, ToWorker } from './messages.js';
import { makeRelayMemory } from './relay.js';
import { spawnReader } from './spawn.js';

/** What readers are started with, but for what each has of its own. */
export type ReaderOptions = Omit<ReaderSettings, 'wake' | 'memory'>;

/** What is told of them. */
export interface ReaderEvents {
  /** A reader's connection is gone; what it was asked, the worker sees to. */
  readerLost(why: string): void;
  /** A reader has died of a defect. */
  crashed(text: string): void;
}

const WAKE = Buffer.from([0]);

interface Reader {
  readonly worker: Worker;
  readonly connection: number;
  readonly descriptors: readonly number[];
  readonly wake: number;
  readonly ended: Promise<void>;
  hasConnection: boolean;
}

/** See the file's head. */
export class ReaderThreads {
  readonly #options: ReaderOptions;
  readonly #firstConnection: number;
  readonly #toWorker: (message: ToWorker) => void;
  readonly #events: ReaderEvents;
  readonly #readers: Reader[] = [];
  #stopping = false;

  /**
   * @param options `device` is the worker's, of which clones are made
   * @param firstConnection number of the first one's connection
   */
  constructor(
    options: ReaderOptions,
    firstConnection: number,
    toWorker: (message: ToWorker) => void,
    events: ReaderEvents,
  ) {
    this.#options = options;
    this.#firstConnection = firstConnection;
    this.#toWorker = toWorker;
    this.#events = events;
  }

  /** Gives a reader without a connection one, or a new reader. @throws Error when it cannot: then the connection is closed */
  attach({ descriptor, tls }: ConnectedSocket, info: ExportInfo): void {
    try {
      if (this.#stopping) throw new Error('the mount is ending');
      const reader = this.#readers.find(({ hasConnection }) => !hasConnection) ?? this.#start();
      reader.hasConnection = true;
      const { connection } = reader;
      this.#say(reader, { type: 'attach', connection, descriptor, tls, info });
    } catch (error) {
      libc.close(descriptor);
      throw error;
    } finally {
      if (tls !== undefined) forgetSecrets(tls);
    }
  }

  /** Somebody has had a signal whose request one of them may have. */
  interrupted(message: Extract<ToReader, { type: 'interrupted' }>): void {
    for (const reader of this.#readers) this.#say(reader, message);
  }

  /**
   * Ends them: what they have, they pass on to the worker, and wait until it has taken that; or (`now`) do not, for
   * it has ended. Resolves when they have ended.
   */
  async stop({ now }: { readonly now: boolean }): Promise<void> {
    this.#stopping = true;
    for (const reader of this.#readers) this.#say(reader, { type: 'stop', now });
    await Promise.all(this.#readers.map(({ ended }) => ended));
  }

  /** Closes what belongs to them, when they and the worker have ended. */
  close(): void {
    for (const { descriptors } of this.#readers.splice(0))
      for (const descriptor of descriptors) libc.close(descriptor);
  }

  #start(): Reader {
    const device = cloneFuseDevice(this.#options.device);
    const { read, write } = pipe();
    const memory = makeRelayMemory();
    const worker = spawnReader();
    const connection = this.#firstConnection + this.#readers.length;
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    const reader = {
      worker,
      connection,
      descriptors: [device, read, write],
      wake: write,
      ended,
      hasConnection: false,
    };
    worker.on('message', (message: FromReader) => {
      if (message.type === 'failed') return this.#events.crashed(message.text);
      reader.hasConnection = false;
      this.#events.readerLost(message.why);
    });
    worker.on('error', (error) => this.#events.crashed(error.stack ?? error.message));
    worker.on('exit', () => {
      if (!this.#stopping) this.#events.crashed('a reader ended unexpectedly');
    });
    const settings: ReaderSettings = { ...this.#options, device, wake: read, memory };
    worker.postMessage(settings);
    this.#readers.push(reader);
    this.#toWorker({ type: 'reader', connection, descriptor: device, wake: write, memory });
    return reader;
  }

  #say({ worker, wake }: Reader, message: ToReader): void {
    worker.postMessage(message);
    libc.write(wake, addressOf(WAKE), 1);
  }
}
