// The main thread's handles of the read threads: starts them, gives them connections, ends them.
//
// Owned by a WorkerHandle. A read thread that has lost its connection stays, without work, until it gets another one.
// The clones of the device belong to this object: the worker answers on them too, so they are closed after its end.

import type { Worker } from 'node:worker_threads';
import { libc } from '../../linux/libc.js';
import { cloneFuseDevice } from '../../linux/mount.js';
import { closePeer } from '../../linux/peer.js';
import { pipe, wake } from '../../linux/pipe.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import { forgetSecrets } from '../../tls/take-over.js';
import { type Call, deliver, type Send, sender } from '../contract/call.js';
import type {
  ConnectedSocket,
  FromReadThread,
  MountEvents,
  ReadThreadEvents,
  ReadThreadSettings,
  ToIdleThread,
  ToReadThread,
  ToWorker,
  WorkerSettings,
} from '../contract/messages.js';
import { makeRingMemory } from '../read-threads/ring.js';
import { dismissWorker } from '../spawn.js';

/** Settings of the worker from which those of its read threads follow. */
export interface ReadThreadOptions extends Omit<WorkerSettings, 'wake'> {
  /** Number of the first read thread's connection. */
  readonly firstReadThreadConnection: number;
}

/** The settings to send, and the threads for them. */
export interface ReadThreadParts {
  readonly options: ReadThreadOptions;
  /** Idle read threads, which are loaded. */
  readonly idle: readonly Worker[];
}

interface ReadThreadHandle {
  readonly connection: number;
  readonly descriptors: readonly number[];
  readonly send: Send<ToReadThread>;
  readonly ended: Promise<void>;
  /** Receives the loss of its connection; undefined where it has none. */
  owner: ReadThreadEvents | undefined;
  /** Descriptors that it was given and cannot have taken yet. */
  given: readonly number[];
  started: boolean;
}

/** See the file's head. */
export class ReadThreadHandles {
  readonly #options: ReadThreadOptions;
  readonly #idle: Worker[];
  readonly #workerWake: number;
  readonly #toWorker: Send<ToWorker>;
  readonly #events: Pick<MountEvents, 'warning' | 'failed'>;
  readonly #threads: ReadThreadHandle[] = [];
  #stopping = false;
  #unable = false;

  /** @param workerWake write end of the pipe that wakes the worker */
  constructor(
    { options, idle }: ReadThreadParts,
    workerWake: number,
    toWorker: Send<ToWorker>,
    events: Pick<MountEvents, 'warning' | 'failed'>,
  ) {
    this.#options = options;
    this.#idle = [...idle];
    this.#workerWake = workerWake;
    this.#toWorker = toWorker;
    this.#events = events;
  }

  /** Gives a read thread without a connection one, or starts one. @throws Error if it cannot; the connection is closed then */
  attach(socket: ConnectedSocket, info: ExportInfo, owner: ReadThreadEvents): void {
    const { descriptor, tls, peer } = socket;
    try {
      if (this.#stopping) throw new Error('the mount is stopping');
      if (this.#unable) throw new Error('read threads cannot be started');
      const thread = this.#threads.find((one) => one.owner === undefined) ?? this.#start();
      thread.owner = owner;
      if (!thread.started) thread.given = [descriptor, ...(peer?.descriptors ?? [])];
      thread.send('attach', { ...socket, connection: thread.connection, info });
    } catch (error) {
      libc.close(descriptor);
      if (peer !== undefined) closePeer(peer);
      throw error;
    } finally {
      if (tls !== undefined) forgetSecrets(tls);
    }
  }

  /** A signal has hit a requester whose request one of them may have. */
  interrupted(uniqueHi: number, uniqueLo: number): void {
    for (const { send } of this.#threads) send('interrupted', uniqueHi, uniqueLo);
  }

  /**
   * Ends them: they forward their requests and wait until the worker has taken them; or (`now`) they do not, since the
   * worker has ended. Resolves when they have ended.
   */
  async stop({ now }: { readonly now: boolean }): Promise<void> {
    this.#stopping = true;
    for (const { send } of this.#threads) send('stop', now);
    await Promise.all([
      ...this.#threads.map(({ ended }) => ended),
      ...this.#idle.splice(0).map((thread) => dismissWorker(thread)),
    ]);
  }

  /** Closes their descriptors, when they and the worker have ended. */
  close(): void {
    for (const { descriptors } of this.#threads.splice(0))
      for (const descriptor of descriptors) libc.close(descriptor);
  }

  #start(): ReadThreadHandle {
    const [thread] = this.#idle;
    if (thread === undefined) throw new Error('the maximum number of read threads is running');
    const device = cloneFuseDevice(this.#options.device);
    const descriptors = [device];
    try {
      const { read, write } = pipe();
      descriptors.push(read, write);
      this.#idle.shift();
      return this.#add(thread, descriptors);
    } catch (error) {
      for (const descriptor of descriptors) libc.close(descriptor);
      throw error;
    }
  }

  /** @param descriptors the device's clone, and both ends of the pipe that wakes the thread */
  #add(worker: Worker, descriptors: readonly number[]): ReadThreadHandle {
    const [device, read, write] = descriptors;
    const memory = makeRingMemory();
    const connection = this.#options.firstReadThreadConnection + this.#threads.length;
    const thread: ReadThreadHandle = {
      connection,
      descriptors,
      send: sender((call) => {
        worker.postMessage(call);
        wake(write);
      }),
      ended: new Promise<void>((resolve) => worker.once('exit', () => resolve())),
      owner: undefined,
      given: [],
      started: false,
    };
    const calls: FromReadThread = {
      started: () => {
        thread.started = true;
      },
      connectionLost: (why) => {
        const { owner } = thread;
        thread.owner = undefined;
        owner?.connectionLost(why);
      },
      failed: (text) => this.#died(thread, text),
    };
    worker.on('message', (call: Call<FromReadThread>) => deliver<FromReadThread>(call, calls));
    worker.on('error', (error) => this.#died(thread, error.stack ?? error.message));
    worker.on('exit', () => this.#died(thread, 'a read thread ended unexpectedly'));
    const { files, fileMountpoint, tree, trace, timeout, settleTime, readAhead } = this.#options;
    const [file] = files;
    const workerWake = this.#workerWake;
    const begin: Call<ToIdleThread<ReadThreadSettings>> = [
      'begin',
      {
        device,
        wake: read,
        file,
        fileMountpoint,
        tree,
        trace,
        timeout,
        settleTime,
        readAhead,
        workerWake,
        memory,
      },
    ];
    worker.postMessage(begin);
    this.#threads.push(thread);
    this.#toWorker('addReadThread', { connection, descriptor: device, wake: write, memory });
    return thread;
  }

  /** A thread that has taken no request is not replaced: it stays in the list, with a connection that is closed. */
  #died(thread: ReadThreadHandle, why: string): void {
    if (this.#stopping) return;
    if (thread.started) this.#events.failed(why);
    if (thread.started || thread.given.length === 0) return;
    for (const given of thread.given) libc.close(given);
    thread.given = [];
    this.#unable = true;
    this.#events.warning(`cannot start a read thread: ${why}; one thread serves the mount`);
  }
}
