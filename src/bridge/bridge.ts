// The main thread's handle of the worker: start it, give it connections, hear of its losses, stop it.
//
// Used by the session. The worker owns every descriptor that it is given; the bridge owns the pipe by
// which it wakes the worker.

import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import type { ExportInfo } from '../nbd/export-info.js';
import { libc } from '../os/libc.js';
import { closePeer, type PeerHandle } from '../os/peer.js';
import { pipe, wake } from '../os/pipe.js';
import { forgetSecrets, type TlsState } from '../tls/take-over.js';
import type {
  BridgeFile,
  FileStatus,
  FromWorker,
  ListChange,
  StopOutcome,
  ToWorker,
  WorkerSettings,
} from './messages.js';
import { ReaderThreads } from './reader-threads.js';

/** A connected stream socket that never blocks. */
export interface ConnectedSocket {
  readonly descriptor: number;
  /** The session that it carries; undefined where it carries plain text. */
  readonly tls: TlsState | undefined;
  /** The server's process, where that is known for sure; its descriptor goes with the socket's. */
  readonly peer: PeerHandle | undefined;
}

/** What a bridge is started with: see WorkerSettings. */
export interface BridgeOptions extends Omit<WorkerSettings, 'wake'> {
  /** Number of the first reader's connection. */
  readonly firstReaderConnection: number;
}

/** What a lost connection was worth. */
export interface LossOutcome {
  /** It answered something, or was asked nothing and broke no rule. */
  readonly useful: boolean;
  /** It leads to another disk. */
  readonly foreign: boolean;
}

/** What the session wants to hear of; called on the main thread. */
export interface BridgeEvents {
  /** A connection is gone. */
  lost(file: number, connection: number, why: string, outcome: LossOutcome): void;
  /** A connection that was attached leads to the same disk as ever, and is used from now on. */
  accepted(file: number, connection: number): void;
  /** Something that a person should read: one line. */
  warning(text: string): void;
  /** A cached write went past the end of a file: truncate(2) it to its size to set the kernel right. */
  beyondEnd(file: number): void;
  /** Make the kernel send what it still holds of this file's writes; then call `Bridge.synced`. */
  syncWanted(file: number): void;
  /** Where files come and go: is there a newer list? Answer with `Bridge.listed`. */
  listWanted(): void;
  /** Somebody opens a file: answer with `Bridge.attach` or `refuse`; it may be asked twice. */
  wanted(file: number): void;
  /** Somebody looks at a file that is not known well: answer with `Bridge.described`. */
  descriptionWanted(file: number): void;
  /** A file has let go of its connections. */
  idle(file: number): void;
  /** The worker has more to do than it can: give it a reader, with `addReader`. */
  readerWanted(): void;
  /** A reader's connection is gone; the worker has taken over what it was asked. */
  readerLost(why: string): void;
  /** The kernel has let go of the mount; the worker is flushing and will stop. */
  unmounted(): void;
  /** The worker has died of a defect: one text, maybe with a stack. */
  crashed(text: string): void;
}

/** Milliseconds that readers may take to pass on what they have. */
const PASSING_TIME = 500;

const NOTHING_LOST: StopOutcome = { unwrittenBytes: 0, ranges: [], reason: '' };

/** See the file's head. */
export class Bridge {
  /** Resolves when the kernel's FUSE_INIT has been answered: the files are there. */
  readonly ready: Promise<void>;
  /** Resolves when the worker has ended in good order, with what it could not write. */
  readonly stopped: Promise<StopOutcome>;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #readers: ReaderThreads;
  readonly #attached = new Map<number, number>();
  #proofs: ((good: boolean) => void)[] = [];
  #statusWanted: ((statuses: readonly FileStatus[]) => void)[] = [];
  readonly #crash: (text: string) => void;
  #ended = false;

  private constructor(worker: Worker, wake: number, options: BridgeOptions, events: BridgeEvents) {
    this.#worker = worker;
    this.#wake = wake;
    this.#readers = this.#makeReaders(options, events);
    let becomeReady: () => void = () => {};
    let refuse: (error: Error) => void = () => {};
    let becomeStopped: (outcome: StopOutcome) => void = () => {};
    this.ready = new Promise((resolve, reject) => {
      becomeReady = resolve;
      refuse = reject;
    });
    this.ready.catch(() => {});
    this.stopped = new Promise((resolve) => {
      becomeStopped = resolve;
    });
    const end = async (outcome: StopOutcome): Promise<void> => {
      this.#ended = true;
      this.#tellStatus([]);
      for (const tell of this.#proofs.splice(0)) tell(false);
      await this.#readers.stop({ now: true });
      this.#readers.close();
      libc.close(this.#wake);
      becomeStopped(outcome);
    };
    this.#crash = (text) => {
      refuse(new Error(text));
      if (this.#ended) return;
      events.crashed(text);
      void end(NOTHING_LOST);
    };
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'ready') becomeReady();
      else if (message.type === 'failed') this.#crash(message.text);
      else if (message.type === 'status') this.#tellStatus(message.statuses);
      else if (message.type === 'proven') this.#proofs.shift()?.(message.good);
      else if (message.type === 'interrupted') this.#readers.interrupted(message);
      else if (message.type === 'stopped') {
        refuse(new Error('the file system was unmounted before it was ready'));
        void end(message.outcome);
      } else {
        // Nothing comes from the kernel any more; what they have, the worker still has to answer.
        if (message.type === 'unmounted') void this.#readers.stop({ now: false });
        tell(events, message);
      }
    });
    worker.on('error', (error) => this.#crash(error.stack ?? error.message));
    worker.on('exit', () => this.#crash('the worker thread ended unexpectedly'));
  }

  /** Puts a worker to work; its messages begin with the next turn of the event loop. */
  static start(options: BridgeOptions, events: BridgeEvents, worker: Worker): Bridge {
    const { read, write } = pipe();
    const bridge = new Bridge(worker, write, options, events);
    const settings: WorkerSettings = { ...options, wake: read };
    worker.postMessage(settings);
    return bridge;
  }

  /**
   * Hands over a connection in its transmission phase: a descriptor, which the worker owns from now on,
   * and the TLS session that it carries, whose secrets are forgotten here.
   */
  attach(file: number, connection: number, socket: ConnectedSocket, info: ExportInfo): void {
    const { descriptor, tls, peer } = socket;
    const arrival = this.attached(file) + 1;
    this.#attached.set(file, arrival);
    this.#say({ type: 'attach', file, arrival, connection, descriptor, tls, peer, info });
    if (tls !== undefined) forgetSecrets(tls);
  }

  /** Until the next `attach`, requests of this file that would wait fail with `errno`. */
  fail(file: number, errno: number): void {
    this.#say({ type: 'fail', file, errno });
  }

  /** How many connections a file has been given. */
  attached(file: number): number {
    return this.#attached.get(file) ?? 0;
  }

  /** What the server was sent on the first `attached` connections of a file will not be carried out any more. */
  serverEnded(file: number, attached: number): void {
    this.#say({ type: 'server-ended', file, attached });
  }

  /** Answers `listWanted`; the first list comes unasked. */
  listed(change: ListChange): void {
    this.#say({ type: 'listed', change });
  }

  /** Answers `descriptionWanted`. @param errno 0, or why it cannot be had */
  described(number: number, file: BridgeFile, errno: number): void {
    this.#say({ type: 'described', number, file, errno });
  }

  /** Answers `wanted`: who opens the file gets `errno`. */
  refuse(file: number, errno: number): void {
    this.#say({ type: 'refuse', file, errno });
  }

  /** Answers `syncWanted`. @param good false: it could not be made to */
  synced(file: number, good: boolean): void {
    this.#say({ type: 'synced', file, good });
  }

  /**
   * Whether a connection that has been made leads to a server that has everything acknowledged: only then may it
   * be given to `addReader`.
   */
  prove(): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.#proofs.push(resolve);
      this.#say({ type: 'prove' });
    });
  }

  /** Answers `readerWanted`, with a connection to the one file's server. @throws Error when it is not possible; the connection is closed then */
  addReader(socket: ConnectedSocket, info: ExportInfo): void {
    this.#readers.attach(socket, info);
  }

  /** Ends the worker: what is under way has `timeout` milliseconds to end. See `stopped`. */
  async stop(timeout: number): Promise<StopOutcome> {
    const began = performance.now();
    const late = delay(Math.min(PASSING_TIME, timeout), undefined, { ref: false });
    await Promise.race([this.#readers.stop({ now: false }), late]);
    this.#say({ type: 'stop', timeout: timeout - (performance.now() - began) });
    return this.stopped;
  }

  /** What can be seen of each file now; nothing of a bridge that has ended. */
  status(): Promise<readonly FileStatus[]> {
    if (this.#ended) return Promise.resolve([]);
    return new Promise((resolve) => {
      this.#statusWanted.push(resolve);
      this.#say({ type: 'status' });
    });
  }

  #tellStatus(statuses: readonly FileStatus[]): void {
    const wanted = this.#statusWanted;
    this.#statusWanted = [];
    for (const tell of wanted) tell(statuses);
  }

  #say(message: ToWorker): void {
    if (this.#ended) {
      if (message.type === 'attach') {
        libc.close(message.descriptor);
        if (message.peer !== undefined) closePeer(message.peer);
      }
      return;
    }
    this.#worker.postMessage(message);
    wake(this.#wake);
  }

  #makeReaders(options: BridgeOptions, events: BridgeEvents): ReaderThreads {
    const {
      device,
      files,
      naked,
      tree,
      trace,
      timeout,
      settleTime,
      readAhead,
      readers,
      readersAlways,
      firstReaderConnection,
    } = options;
    const [file] = files;
    return new ReaderThreads(
      {
        device,
        file,
        naked,
        tree,
        trace,
        timeout,
        settleTime,
        readAhead,
        readersAlways,
        workerWake: this.#wake,
      },
      readers,
      firstReaderConnection,
      (message) => this.#say(message),
      {
        readerLost: (why) => events.readerLost(why),
        // The worker lives: it ends in order, with a FLUSH, when the session has heard of this.
        crashed: (text) => {
          if (!this.#ended) events.crashed(text);
        },
        unable: (why) => events.warning(`cannot start a read thread: ${why}; one thread serves the mount`),
      },
    );
  }
}

function tell(events: BridgeEvents, message: FromWorker): void {
  switch (message.type) {
    case 'lost':
      events.lost(message.file, message.connection, message.why, message);
      return;
    case 'accepted':
      events.accepted(message.file, message.connection);
      return;
    case 'warning':
      events.warning(message.text);
      return;
    case 'beyond-end':
      events.beyondEnd(message.file);
      return;
    case 'sync-wanted':
      events.syncWanted(message.file);
      return;
    case 'list-wanted':
      events.listWanted();
      return;
    case 'wanted':
      events.wanted(message.file);
      return;
    case 'description-wanted':
      events.descriptionWanted(message.file);
      return;
    case 'idle':
      events.idle(message.file);
      return;
    case 'reader-wanted':
      events.readerWanted();
      return;
    case 'unmounted':
      events.unmounted();
  }
}
