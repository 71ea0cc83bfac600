// The main thread's handle of the worker: starts it, gives it connections, passes on its calls, stops it.
//
// The session owns it. The worker owns every descriptor that it gets; the handle owns the pipe that wakes the worker.

import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { libc } from '../../linux/libc.js';
import { closePeer } from '../../linux/peer.js';
import { pipe, wake } from '../../linux/pipe.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import { forgetSecrets } from '../../tls/take-over.js';
import { type Call, deliver, type Send, sender } from '../contract/call.js';
import type {
  ConnectedSocket,
  FromWorker,
  InodeEvents,
  KeptFiles,
  LocalCopy,
  MountEvents,
  ReadThreadEvents,
  StopOutcome,
  ToIdleThread,
  ToWorker,
  WorkerSettings,
} from '../contract/messages.js';
import type { FileStatus } from '../contract/status.js';
import { ReadThreadHandles, type ReadThreadOptions } from './read-thread-handles.js';

/** Settings of a worker and its read threads. */
export type WorkerOptions = ReadThreadOptions;

/** Threads that are loaded and wait for their work. */
export interface IdleThreads {
  readonly worker: Worker;
  readonly readThreads: readonly Worker[];
}

/** The receivers of the calls that are not for the handle itself. */
export type WorkerEvents = MountEvents & InodeEvents;

/** Calls that the handle acts on; it passes all others on unchanged. */
type OwnCalls = Omit<FromWorker, 'warning' | 'detail' | keyof InodeEvents | keyof MountEvents['files']>;

/** Milliseconds for read threads to forward their requests. */
const FORWARDING_TIME = 500;

const MOUNT_ENDED = 'the mount has ended';

const NOTHING_LOST: StopOutcome = { unwrittenBytes: 0, ranges: [], reason: '' };

/** See the file's head. */
export class WorkerHandle {
  /** Resolves when the kernel's FUSE_INIT has been answered: the files are there. */
  readonly ready: Promise<void>;
  /** Resolves when the worker has ended in order, with the bytes that it could not write. */
  readonly stopped: Promise<StopOutcome>;
  /** Calls the worker. After its end a call does nothing but close the descriptors that it carries. */
  readonly send: Send<ToWorker>;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #events: WorkerEvents;
  readonly #readThreads: ReadThreadHandles;
  readonly #attached = new Map<number, number>();
  #proofs: ((good: boolean) => void)[] = [];
  #copies: ((why: string) => void)[] = [];
  #statusWanted: ((statuses: readonly FileStatus[]) => void)[] = [];
  #becomeReady: () => void = () => undefined;
  #refuseReady: (error: Error) => void = () => undefined;
  #becomeStopped: (outcome: StopOutcome) => void = () => undefined;
  #ended = false;

  private constructor(
    { worker, readThreads }: IdleThreads,
    wakeEnd: number,
    options: WorkerOptions,
    events: WorkerEvents,
  ) {
    this.#worker = worker;
    this.#wake = wakeEnd;
    this.#events = events;
    this.send = sender((call) => this.#post(call));
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = resolve;
      this.#refuseReady = reject;
    });
    this.ready.catch(() => {});
    this.stopped = new Promise((resolve) => {
      this.#becomeStopped = resolve;
    });
    // When a read thread has failed, the worker lives: it ends in order, with a FLUSH, when the session acts on this.
    this.#readThreads = new ReadThreadHandles({ options, idle: readThreads }, wakeEnd, this.send, events);
    worker.on('message', (call: Call<FromWorker>) => this.#receive(call));
    worker.on('error', (error) => this.#crash(error.stack ?? error.message));
    worker.on('exit', () => this.#crash('the worker thread ended unexpectedly'));
  }

  /** Starts a worker's work; its calls begin with the next turn of the event loop. */
  static start(options: WorkerOptions, events: WorkerEvents, threads: IdleThreads): WorkerHandle {
    const { read, write } = pipe();
    const handle = new WorkerHandle(threads, write, options, events);
    const begin: Call<ToIdleThread<WorkerSettings>> = ['begin', { ...options, wake: read }];
    threads.worker.postMessage(begin);
    return handle;
  }

  /** Gives a file a connection. The secrets of its TLS session are forgotten here. */
  attach(file: number, connection: number, socket: ConnectedSocket, info: ExportInfo): void {
    const arrival = this.attached(file) + 1;
    this.#attached.set(file, arrival);
    this.send('attach', { ...socket, file, arrival, connection, info });
    if (socket.tls !== undefined) forgetSecrets(socket.tls);
  }

  /** Number of connections that a file has been given. */
  attached(file: number): number {
    return this.#attached.get(file) ?? 0;
  }

  /**
   * Whether a connection that has been made leads to a server that has every acknowledged byte: only then may it be
   * given to `addReadThread`.
   */
  prove(): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.#proofs.push(resolve);
      this.send('prove');
    });
  }

  /**
   * Starts a read thread on a connection to the one file's server. @param owner receives the loss of the connection
   * @throws Error if it cannot; the connection is closed then
   */
  addReadThread(socket: ConnectedSocket, info: ExportInfo, owner: ReadThreadEvents): void {
    this.#readThreads.attach(socket, info, owner);
  }

  /** Lets the kernel read the only file without nbdfuse. Resolves with an empty text, or why it does not. */
  passThrough(copy: LocalCopy): Promise<string> {
    if (this.#ended) return Promise.resolve(MOUNT_ENDED);
    return new Promise((resolve) => {
      this.#copies.push(resolve);
      this.send('passThrough', copy);
    });
  }

  /** Ends the worker. See `stopped`. @param remaining milliseconds that requests in flight still have to end */
  async stop(remaining: () => number): Promise<StopOutcome> {
    const late = delay(Math.min(FORWARDING_TIME, remaining()), undefined, { ref: false });
    await Promise.race([this.#readThreads.stop({ now: false }), late]);
    this.send('stop', remaining());
    return this.stopped;
  }

  /** The status of each file; empty after the worker's end. */
  status(): Promise<readonly FileStatus[]> {
    if (this.#ended) return Promise.resolve([]);
    return new Promise((resolve) => {
      this.#statusWanted.push(resolve);
      this.send('tellStatus');
    });
  }

  readonly #own: OwnCalls = {
    ready: () => this.#becomeReady(),
    failed: (text) => this.#crash(text),
    status: (statuses) => this.#answerStatus(statuses),
    passedThrough: (why) => this.#copies.shift()?.(why),
    proven: (good) => this.#proofs.shift()?.(good),
    interrupted: (uniqueHi, uniqueLo) => this.#readThreads.interrupted(uniqueHi, uniqueLo),
    unmounted: () => {
      // No request comes from the kernel any more; the worker answers those that the read threads have.
      void this.#readThreads.stop({ now: false });
      this.#events.unmounted();
    },
    stopped: (outcome) => {
      this.#refuseReady(new Error('the file system was unmounted before it was ready'));
      void this.#end(outcome);
    },
  };

  #receive(call: Call<FromWorker>): void {
    const [name] = call;
    if (name in this.#own) deliver<FromWorker>(call, this.#own);
    else deliver<FromWorker>(call, name in this.#events ? this.#events : this.#events.files);
  }

  async #end(outcome: StopOutcome): Promise<void> {
    this.#ended = true;
    this.#answerStatus([]);
    for (const resolve of this.#proofs.splice(0)) resolve(false);
    for (const resolve of this.#copies.splice(0)) resolve(MOUNT_ENDED);
    await this.#readThreads.stop({ now: true });
    this.#readThreads.close();
    libc.close(this.#wake);
    this.#becomeStopped(outcome);
  }

  #crash(text: string): void {
    this.#refuseReady(new Error(text));
    if (this.#ended) return;
    this.#events.failed(text);
    void this.#end(NOTHING_LOST);
  }

  #answerStatus(statuses: readonly FileStatus[]): void {
    for (const resolve of this.#statusWanted.splice(0)) resolve(statuses);
  }

  #post(call: readonly unknown[]): void {
    if (!this.#ended) {
      this.#worker.postMessage(call);
      wake(this.#wake);
      return;
    }
    const [name, first, second] = call;
    if (name === 'attach') closeSocket(first as ConnectedSocket);
    if (name === 'readKept') closeKept(second as KeptFiles | undefined);
  }
}

/** Closes a cache file that no thread takes. */
export function closeKept(files: KeptFiles | undefined): void {
  if (files === undefined) return;
  libc.close(files.data);
  libc.close(files.index);
}

/** Closes a socket that no thread takes. */
function closeSocket({ descriptor, peer }: ConnectedSocket): void {
  libc.close(descriptor);
  if (peer !== undefined) closePeer(peer);
}
