// The worker's view of its read threads: takes the requests that they forward, and counts what they have
// done.
//
// Owned by the worker of a mount with --threads. A read thread answers READs and forwards everything else, so
// that the order of changes, recovery and interrupts stay with the worker.

import type { Send } from '../contract/call.js';
import type { FromWorker, ReadThreadEnd } from '../contract/messages.js';
import type { Device } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { BACKGROUND_FLUSH, type Task } from '../flight/fuse-request.js';
import type { RequestTaker } from '../loop/loop.js';
import type { Engine } from '../request/engine.js';
import { RING_REQUEST, RingConsumer } from './ring.js';

/** See the file's head. */
export class ReadThreads {
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #send: Send<FromWorker>;
  readonly #rings: RingConsumer[] = [];
  #postponed = false;

  constructor(engine: Engine, disk: Disk, send: Send<FromWorker>) {
    this.#engine = engine;
    this.#disk = disk;
    this.#send = send;
  }

  /** Adds a read thread; it may have no connection yet. */
  add(thread: ReadThreadEnd): void {
    const ring = new RingConsumer(thread);
    ring.changing = this.#disk.order.isChanging;
    this.#rings.push(ring);
    this.#disk.order.announce = (isChanging) => {
      for (const one of this.#rings) one.changing = isChanging;
    };
  }

  /** The read threads that have a connection. */
  get connected(): readonly RingConsumer[] {
    return this.#rings.filter(({ connected }) => connected);
  }

  /** The counters of all read threads: see COUNTER. */
  get counters(): readonly Float64Array[] {
    return this.#rings.map(({ counters }) => counters);
  }

  /** Begins the requests that they have forwarded. */
  serve(device: Device, taker: RequestTaker): void {
    this.#postponed = false;
    for (const ring of this.#rings) {
      ring.listen();
      for (; ring.next(); ring.take()) {
        if (this.#engine.buffers.exhausted) {
          this.#postponed = true;
          return;
        }
        if (ring.kind === RING_REQUEST) {
          device.load(ring.a, ring.b, ring.descriptor);
          taker.dispatch(ring.b);
        } else this.#engine.interruptRequest(ring.a, ring.b);
      }
    }
  }

  /** Passes an interruption on: a read thread may have the request. */
  interrupt(uniqueHi: number, uniqueLo: number): void {
    if (this.#rings.length > 0) this.#send('interrupted', uniqueHi, uniqueLo);
  }

  /** Called once a turn. True: `serve` has left requests, and there is memory for them now. */
  look(): boolean {
    const { remote } = this.#disk.latency;
    for (const ring of this.#rings) ring.remote = remote;
    return this.#postponed && !this.#engine.buffers.exhausted;
  }

  /**
   * Finds out whether a connection that was made before leads to a server that has every acknowledged byte, as Recovery
   * does for the worker's own: it does if a FLUSH succeeds, or none is needed.
   */
  prove(): void {
    const disk = this.#disk;
    if (disk.waiting) this.#send('proven', false);
    else if (!disk.mayLose) this.#send('proven', true);
    else this.#engine.run(...this.#proof(disk));
  }

  #proof(disk: Disk): Parameters<Engine['run']> {
    const engine = this.#engine;
    const send = this.#send;
    const request = engine.begin(BACKGROUND_FLUSH, disk);
    const task = (function* (): Task {
      yield* engine.flush(request, disk);
      send('proven', request.error === 0);
    })();
    return [request, task];
  }
}
