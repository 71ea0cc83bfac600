// The main thread's handle of the readers: starting them when they are wanted, and ending them.
//
// Owned by a Bridge. A reader that has lost its connection stays, without work, until it is given another. The
// clones of the device belong to this object: the worker answers on them too, so they are closed when it has ended.

import type { Worker } from 'node:worker_threads';
import type { ExportInfo } from '../nbd/export-info.js';
import { libc } from '../os/libc.js';
import { cloneFuseDevice } from '../os/mount.js';
import { closePeer } from '../os/peer.js';
import { pipe, wake } from '../os/pipe.js';
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
  /** A reader has died of a defect, with what it was asked. */
  crashed(text: string): void;
  /** One could not be started: no other is tried. */
  unable(why: string): void;
}

interface Reader {
  readonly worker: Worker;
  readonly connection: number;
  readonly descriptors: readonly number[];
  readonly wake: number;
  readonly ended: Promise<void>;
  hasConnection: boolean;
  /** The descriptors that it was given and cannot have taken yet. */
  given: readonly number[];
  started: boolean;
}

/** See the file's head. */
export class ReaderThreads {
  readonly #options: ReaderOptions;
  readonly #most: number;
  readonly #firstConnection: number;
  readonly #toWorker: (message: ToWorker) => void;
  readonly #events: ReaderEvents;
  readonly #readers: Reader[] = [];
  #stopping = false;
  #unable = false;

  /**
   * @param options `device` is the worker's, of which clones are made
   * @param most threads
   * @param firstConnection number of the first one's connection
   */
  constructor(
    options: ReaderOptions,
    most: number,
    firstConnection: number,
    toWorker: (message: ToWorker) => void,
    events: ReaderEvents,
  ) {
    this.#options = options;
    this.#most = most;
    this.#firstConnection = firstConnection;
    this.#toWorker = toWorker;
    this.#events = events;
  }

  /** Gives a reader without a connection one, or a new reader. @throws Error when it cannot: then the connection is closed */
  attach({ descriptor, tls, peer }: ConnectedSocket, info: ExportInfo): void {
    try {
      if (this.#stopping) throw new Error('the mount is stopping');
      if (this.#unable) throw new Error('read threads cannot be started');
      const reader = this.#readers.find(({ hasConnection }) => !hasConnection) ?? this.#start();
      reader.hasConnection = true;
      if (!reader.started) reader.given = [descriptor, ...(peer?.descriptors ?? [])];
      const { connection } = reader;
      this.#say(reader, { type: 'attach', connection, descriptor, tls, peer, info });
    } catch (error) {
      libc.close(descriptor);
      if (peer !== undefined) closePeer(peer);
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
    if (this.#readers.length >= this.#most) throw new Error('the maximum number of read threads is running');
    const device = cloneFuseDevice(this.#options.device);
    const descriptors = [device];
    try {
      const { read, write } = pipe();
      descriptors.push(read, write);
      return this.#add(spawnReader(), descriptors, device, read, write);
    } catch (error) {
      for (const descriptor of descriptors) libc.close(descriptor);
      throw error;
    }
  }

  #add(worker: Worker, descriptors: readonly number[], device: number, read: number, write: number): Reader {
    const memory = makeRelayMemory();
    const connection = this.#firstConnection + this.#readers.length;
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    const reader = {
      worker,
      connection,
      descriptors,
      wake: write,
      ended,
      hasConnection: false,
      given: [] as readonly number[],
      started: false,
    };
    worker.on('message', (message: FromReader) => {
      switch (message.type) {
        case 'started':
          reader.started = true;
          return;
        case 'failed':
          this.#died(reader, message.text);
          return;
        case 'lost':
          reader.hasConnection = false;
          this.#events.readerLost(message.why);
      }
    });
    worker.on('error', (error) => this.#died(reader, error.stack ?? error.message));
    worker.on('exit', () => this.#died(reader, 'a read thread ended unexpectedly'));
    const settings: ReaderSettings = { ...this.#options, device, wake: read, memory };
    worker.postMessage(settings);
    this.#readers.push(reader);
    this.#toWorker({ type: 'reader', connection, descriptor: device, wake: write, memory });
    return reader;
  }

  /** One that has taken nothing from the kernel is done without: it stays in the list, with a connection that is none. */
  #died(reader: Reader, why: string): void {
    if (this.#stopping) return;
    if (reader.started) this.#events.crashed(why);
    if (reader.started || reader.given.length === 0) return;
    for (const given of reader.given) libc.close(given);
    reader.given = [];
    this.#unable = true;
    this.#events.unable(why);
  }

  #say(reader: Reader, message: ToReader): void {
    reader.worker.postMessage(message);
    wake(reader.wake);
  }
}
