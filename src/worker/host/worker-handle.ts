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
  ConnectionEvents,
  DirectoryEvents,
  FromWorker,
  StopOutcome,
  ToWorker,
  WorkerSettings,
} from '../contract/messages.js';
import type { FileStatus } from '../contract/status.js';
import { ReadThreadHandles } from './read-thread-handles.js';

/** Settings of a worker and its read threads. */
export interface WorkerOptions extends Omit<WorkerSettings, 'wake'> {
  /** Number of the first read thread's connection. */
  readonly firstReadThreadConnection: number;
}

/** Calls of the worker that the session receives, besides those for the owner of the files. */
export interface WorkerEvents extends Pick<FromWorker, 'warning' | 'beyondEnd' | 'syncWanted' | 'unmounted'> {
  /** Receives the calls about the files' connections, and with --all about their directory. */
  readonly files: ConnectionEvents & Partial<DirectoryEvents>;
  /** A read thread's connection is lost; the worker has taken over its requests. */
  readThreadLost(why: string): void;
  /** A defect has ended the worker or a read thread. @param text maybe with a stack */
  crashed(text: string): void;
}

/** Calls that the handle answers by itself. */
type OwnCalls = Pick<FromWorker, 'ready' | 'failed' | 'status' | 'proven' | 'interrupted' | 'stopped'>;

/** Milliseconds for read threads to forward their requests. */
const FORWARDING_TIME = 500;

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
  #statusWanted: ((statuses: readonly FileStatus[]) => void)[] = [];
  #becomeReady: () => void = () => undefined;
  #refuseReady: (error: Error) => void = () => undefined;
  #becomeStopped: (outcome: StopOutcome) => void = () => undefined;
  #ended = false;

  private constructor(worker: Worker, wakeEnd: number, options: WorkerOptions, events: WorkerEvents) {
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
    this.#readThreads = new ReadThreadHandles(options, wakeEnd, this.send, {
      readThreadLost: (why) => events.readThreadLost(why),
      // The worker lives: it ends in order, with a FLUSH, when the session acts on this.
      crashed: (text) => {
        if (!this.#ended) events.crashed(text);
      },
      unable: (why) => events.warning(`cannot start a read thread: ${why}; one thread serves the mount`),
    });
    worker.on('message', (call: Call<FromWorker>) => this.#receive(call));
    worker.on('error', (error) => this.#crash(error.stack ?? error.message));
    worker.on('exit', () => this.#crash('the worker thread ended unexpectedly'));
  }

  /** Starts a worker's work; its calls begin with the next turn of the event loop. */
  static start(options: WorkerOptions, events: WorkerEvents, worker: Worker): WorkerHandle {
    const { read, write } = pipe();
    const handle = new WorkerHandle(worker, write, options, events);
    const settings: WorkerSettings = { ...options, wake: read };
    worker.postMessage(settings);
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

  /** Starts a read thread on a connection to the one file's server. @throws Error if it cannot; the connection is closed then */
  addReadThread(socket: ConnectedSocket, info: ExportInfo): void {
    this.#readThreads.attach(socket, info);
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
    proven: (good) => this.#proofs.shift()?.(good),
    interrupted: (uniqueHi, uniqueLo) => this.#readThreads.interrupted(uniqueHi, uniqueLo),
    stopped: (outcome) => {
      this.#refuseReady(new Error('the file system was unmounted before it was ready'));
      void this.#end(outcome);
    },
  };

  #receive(call: Call<FromWorker>): void {
    const [name] = call;
    if (name in this.#own) deliver<FromWorker>(call, this.#own);
    else if (name in this.#events) {
      // No request comes from the kernel any more; the worker answers those that the read threads have.
      if (name === 'unmounted') void this.#readThreads.stop({ now: false });
      deliver<FromWorker>(call, this.#events);
    } else deliver<FromWorker>(call, this.#events.files);
  }

  async #end(outcome: StopOutcome): Promise<void> {
    this.#ended = true;
    this.#answerStatus([]);
    for (const resolve of this.#proofs.splice(0)) resolve(false);
    await this.#readThreads.stop({ now: true });
    this.#readThreads.close();
    libc.close(this.#wake);
    this.#becomeStopped(outcome);
  }

  #crash(text: string): void {
    this.#refuseReady(new Error(text));
    if (this.#ended) return;
    this.#events.crashed(text);
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
    const [name, socket] = call;
    if (name === 'attach') closeSocket(socket as ConnectedSocket);
  }
}

/** Closes a socket that no thread takes. */
function closeSocket({ descriptor, peer }: ConnectedSocket): void {
  libc.close(descriptor);
  if (peer !== undefined) closePeer(peer);
}
