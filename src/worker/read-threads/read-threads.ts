// The worker's view of its readers: what they pass on, when they are wanted, what they have done.
//
// Owned by the worker, where there may be readers. They are wanted while the worker has no time left, READs are
// what it is asked for, and the server is near: what is far away, more threads do not bring nearer. A reader
// rests by itself when it has little to do.

import type { FromWorker, ToWorker } from '../contract/messages.js';
import type { Device } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { BACKGROUND_FLUSH } from '../flight/fuse-request.js';
import type { RequestTaker } from '../loop/loop.js';
import type { Engine } from '../request/engine.js';
import { COUNTER } from '../stats/counters.js';
import type { Load } from '../stats/load.js';
import { RING_REQUEST, RingConsumer } from './ring.js';

/** Share of its time that a worker is at work who needs help. */
const BUSY = 0.85;

/** Looks in a row that must find it so. */
const LOOKS = 2;

/** Milliseconds between two questions for one more reader. */
const PATIENCE = 1000;

/** See the file's head. */
export class ReadThreads {
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #most: number;
  readonly #load: Load | undefined;
  readonly #say: (message: FromWorker) => void;
  readonly #receivers: RingConsumer[] = [];
  #strained = 0;
  #reads = 0;
  #writes = 0;
  #askedAt = Number.NEGATIVE_INFINITY;
  #postponed = false;

  /**
   * @param most readers to ask for at most
   * @param load of the worker; undefined: they are not to be asked for
   */
  constructor(
    engine: Engine,
    disk: Disk,
    most: number,
    load: Load | undefined,
    say: (message: FromWorker) => void,
  ) {
    this.#engine = engine;
    this.#disk = disk;
    this.#most = most;
    this.#load = load;
    this.#say = say;
  }

  /** One more, on a clone of the device; it may have no connection yet. */
  add({ connection, descriptor, memory, wake }: Extract<ToWorker, { type: 'reader' }>): void {
    const receiver = new RingConsumer(connection, descriptor, memory, wake);
    receiver.changing = this.#disk.order.isChanging;
    this.#receivers.push(receiver);
    this.#disk.order.announce = (isChanging) => {
      for (const one of this.#receivers) one.changing = isChanging;
    };
  }

  /** The readers that have a connection. */
  get connected(): readonly RingConsumer[] {
    return this.#receivers.filter(({ connected }) => connected);
  }

  /** What all of them have done for the file. */
  get counters(): readonly Float64Array[] {
    return this.#receivers.map(({ counters }) => counters);
  }

  /** Begins what they have passed on. */
  serve(device: Device, taker: RequestTaker): void {
    this.#postponed = false;
    for (const receiver of this.#receivers) {
      receiver.listen();
      for (; receiver.next(); receiver.take()) {
        if (this.#engine.buffers.exhausted) {
          this.#postponed = true;
          return;
        }
        if (receiver.kind === RING_REQUEST) {
          device.load(receiver.a, receiver.b, receiver.descriptor);
          taker.dispatch(receiver.b);
        } else this.#engine.interruptRequest(receiver.a, receiver.b);
      }
    }
  }

  /** Asks them for a request that is not under way here, on behalf of who asked for it. */
  interrupt(uniqueHi: number, uniqueLo: number): void {
    if (this.#receivers.length > 0) this.#say({ type: 'interrupted', uniqueHi, uniqueLo });
  }

  /** Once a turn: asks for help where it is needed. True: `serve` has left something. */
  look(now: number): boolean {
    const { remote } = this.#disk.latency;
    for (const receiver of this.#receivers) receiver.far = remote;
    const share = this.#load?.share(now);
    if (share !== undefined) this.#consider(share, now);
    return this.#postponed && !this.#engine.buffers.exhausted;
  }

  /**
   * Finds out whether a connection that was made before leads to a server that has everything acknowledged, as
   * Recovery does for the worker's own: it does when a FLUSH succeeds, or none is needed.
   */
  prove(): void {
    const engine = this.#engine;
    const disk = this.#disk;
    const tell = (good: boolean): void => this.#say({ type: 'proven', good });
    if (disk.waiting) tell(false);
    else if (!disk.mayLose) tell(true);
    else {
      const request = engine.begin(BACKGROUND_FLUSH, disk);
      engine.run(
        request,
        (function* () {
          yield* engine.flush(request, disk);
          tell(request.error === 0);
        })(),
      );
    }
  }

  #consider(share: number, now: number): void {
    const { counters, latency } = this.#disk;
    const reads = counters[COUNTER.reads] - this.#reads;
    const writes = counters[COUNTER.writes] - this.#writes;
    this.#reads += reads;
    this.#writes += writes;
    const strained = share > BUSY && reads > writes && !latency.remote;
    this.#strained = strained ? this.#strained + 1 : 0;
    if (this.#strained < LOOKS) return;
    this.#strained = 0;
    const connected = this.connected;
    const idle = connected.find(({ wanted }) => !wanted);
    if (idle !== undefined) idle.call();
    else if (connected.length < this.#most && now - this.#askedAt >= PATIENCE) {
      this.#askedAt = now;
      this.#say({ type: 'reader-wanted' });
    }
  }
}
