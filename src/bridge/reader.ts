// A reader: one more thread that answers READs, over a connection of its own, when the worker has no time left.
//
// Started by ReaderThreads for a mount of one file, with a clone of the device's descriptor, from which the kernel
// gives it requests as it does the worker. What is no READ it passes on to the worker, and so it does with every
// READ when its connection is lost: order among writes, recovery and who waits for what stay with the worker. It
// takes requests only while the worker wants it to, so that a mount with little to do does not wake it.

import type { MessagePort } from 'node:worker_threads';
import { Tree } from '../file/tree.js';
import { FUSE_READ } from '../fuse/constants.js';
import {
  HOST_ENDIAN,
  IN_HEADER,
  IN_LEN,
  IN_NODEID_HI,
  IN_NODEID_LO,
  IN_OPCODE,
  IN_PID,
  IN_UNIQUE_HI,
  IN_UNIQUE_LO,
  IO_FLAGS,
  IO_OFFSET_HI,
  IO_OFFSET_LO,
  IO_SIZE,
} from '../fuse/layout.js';
import { EIO } from '../os/errno.js';
import { O_DIRECT } from '../os/open-flags.js';
import { PeerProcesses } from '../os/peer.js';
import { POLLIN, PollSet } from '../os/poll.js';
import type { Connection } from './connection.js';
import { startRead } from './data-requests.js';
import { MAX_TRANSFER } from './device.js';
import { Disk } from './disk.js';
import { Engine, type EngineEvents } from './engine.js';
import { describe } from './files.js';
import { Loop, type LoopControl, type RequestTaker } from './loop.js';
import type { FromReader, ReaderSettings, ToReader } from './messages.js';
import { openChannel } from './open-channel.js';
import { OPERATION_OWN, type Operation } from './operation.js';
import { Passing } from './passing.js';
import { Ranges } from './ranges.js';
import { RelaySender } from './relay.js';
import { runThread, takeMessages } from './thread.js';
import { Trace } from './trace.js';
import { Watchdog } from './watchdog.js';
import { Workload } from './workload.js';

/** Bytes of payload in use at which no new request is taken from the kernel. */
const MEMORY_LIMIT = 64 * 1024 * 1024;

/** Requests that may wait to be passed on before no more are taken. */
const MOST_PENDING = 128;

/** Share of its time below which a reader is not needed. */
const IDLE = 0.3;

/** Looks in a row that must find it so. */
const LOOKS = 3;

/** Bytes of a FUSE_READ. */
const READ_REQUEST = IN_HEADER + 40;

/** The device, the pipe, the connection, and room. */
const POLL_CAPACITY = 8;

class Reader implements EngineEvents, LoopControl, RequestTaker {
  readonly wakeDescriptor: number;
  readonly #port: MessagePort;
  readonly #readAhead: boolean;
  readonly #always: boolean;
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #relay: RelaySender;
  readonly #passing: Passing;
  readonly #loop: Loop;
  readonly #watchdog: Watchdog;
  readonly #peers = new PeerProcesses();
  readonly #workload = new Workload(performance.now());
  readonly #hearing = (message: ToReader): void => this.#hear(message);
  #requests = 0;
  #reads = 0;
  #idle = 0;
  #deviceGone = false;
  #stop: 'not' | 'when all is passed on' | 'now' = 'not';

  constructor(port: MessagePort, settings: ReaderSettings) {
    this.#port = port;
    const { device, wake, file, memory, workerWake, naked, tree, trace, timeout, readAhead } = settings;
    if (file.info === undefined) throw new Error('a read thread needs to know its file');
    this.wakeDescriptor = wake;
    this.#readAhead = readAhead;
    this.#always = settings.readersAlways;
    this.#engine = new Engine(
      {
        descriptor: device,
        keepBytes: 0,
        keepExtents: false,
        kernelHoldsWrites: false,
        largestPayload: MAX_TRANSFER,
        memoryLimit: MEMORY_LIMIT,
        settleTime: settings.settleTime,
      },
      trace === undefined ? undefined : new Trace(trace),
      this,
    );
    const [node] = new Tree([describe(file)], naked, tree).files();
    this.#relay = new RelaySender(memory, workerWake);
    this.#disk = new Disk(0, node, file.info, this.#engine, this.#relay.counters);
    this.#passing = new Passing(this.#relay, this.#engine.blocks);
    const disks = [this.#disk];
    this.#loop = new Loop(this.#engine, this, disks, new PollSet(POLL_CAPACITY), this, this.#workload);
    this.#loop.stopListening();
    this.#watchdog = new Watchdog(this.#engine, disks, undefined, timeout);
  }

  run(): void {
    this.#say({ type: 'started' });
    try {
      this.#loop.run();
    } catch (error) {
      this.#outliveDefect(error);
    } finally {
      for (const connection of this.#disk.connections) connection.close();
    }
  }

  /** Tells of a defect, and stays until the worker has ended, which may still read what was passed on by its address. */
  #outliveDefect(error: unknown): void {
    this.#stop = 'when all is passed on';
    this.#say({
      type: 'failed',
      text: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    const poll = new PollSet(1);
    poll.add(this.wakeDescriptor, POLLIN);
    // The type checker does not see that messages change it.
    const isOver = (): boolean => this.#stop === 'now';
    while (!isOver()) {
      poll.wait(-1);
      this.takeMessages();
    }
  }

  dispatch(length: number): void {
    const { device } = this.#engine;
    const { view } = device.block;
    this.#requests++;
    if (!this.#isForMe(view)) {
      this.#passing.received(device, length);
      return;
    }
    this.#reads++;
    startRead(this.#engine, undefined, this.#disk, view);
  }

  closed(): void {
    // Without changes no connection is read after it was given up.
  }

  accepted(): void {
    // The session knows.
  }

  lost(_disk: Disk, connection: Connection, why: string): void {
    this.#loop.unwatch(connection);
    this.#passOnReads();
    if (this.#stop === 'not') this.#say({ type: 'lost', why });
  }

  warn(): void {
    // Who only reads loses nothing.
  }

  wroteBeyondEnd(): void {
    // The worker sees to writes.
  }

  syncWanted(): void {
    // And to LSEEK.
  }

  takeMessages(): void {
    takeMessages(this.#port, this.wakeDescriptor, this.#hearing);
  }

  unmounted(): void {
    this.#deviceGone = true;
  }

  turn(now: number): boolean {
    this.#passing.advance();
    this.#watchdog.look(now);
    this.#restIfIdle(now);
    const isWanted = this.#always || this.#relay.wanted;
    const isToListen = isWanted && this.#canRead && !this.#deviceGone && this.#passing.pending < MOST_PENDING;
    if (isToListen) this.#loop.listenAgain();
    else this.#loop.stopListening();
    this.#relay.tell(this.#canRead, this.#engine.operations.count);
    return this.#stop === 'now' || (this.#stop !== 'not' && this.#passing.pending === 0);
  }

  patience(): number {
    // The worker does not say when it has taken something.
    return this.#passing.pending > 0 ? 1 : this.#watchdog.patience;
  }

  get #canRead(): boolean {
    return this.#stop === 'not' && !this.#disk.waiting;
  }

  #isForMe(view: DataView): boolean {
    if (view.getUint32(IN_OPCODE, HOST_ENDIAN) !== FUSE_READ || !this.#canRead) return false;
    // While something is being changed, the worker answers in its turn.
    if (this.#relay.changing) return false;
    if (view.getUint32(IN_NODEID_LO, HOST_ENDIAN) !== this.#disk.node.nodeid) return false;
    // The worker reads ahead of those who read a far server through the page cache, and must see all of it.
    return !this.#readAhead || !this.#relay.far || (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DIRECT) !== 0;
  }

  #hear(message: ToReader): void {
    switch (message.type) {
      case 'attach': {
        const channel = openChannel(message, this.#engine.lender, this.#peers);
        if (this.#stop === 'not')
          this.#loop.watch(this.#disk.attach(channel, message.connection, message.info));
        else channel.close();
        return;
      }
      case 'interrupted': {
        const { uniqueHi, uniqueLo } = message;
        // It may have been passed on.
        if (!this.#engine.interruptRequest(uniqueHi, uniqueLo)) this.#passing.interrupt(uniqueHi, uniqueLo);
        return;
      }
      case 'stop':
        if (this.#stop === 'not') {
          this.#stop = 'when all is passed on';
          this.#passOnReads();
          this.#disk.surrender(EIO, new Ranges());
        }
        if (message.now) this.#stop = 'now';
    }
  }

  #restIfIdle(now: number): void {
    const share = this.#workload.share(now);
    if (share === undefined) return;
    this.#idle = share < IDLE || this.#reads * 2 < this.#requests ? this.#idle + 1 : 0;
    this.#requests = 0;
    this.#reads = 0;
    if (this.#idle < LOOKS) return;
    this.#idle = 0;
    this.#relay.rest();
  }

  /** Lets the worker answer what is not answered; nothing waits here any more. */
  #passOnReads(): void {
    for (const operation of this.#engine.operations.unansweredSince(Number.POSITIVE_INFINITY)) {
      this.#passOnRead(operation);
      operation.answered = true;
      // For the counters and the trace, it has not been here.
      operation.kind = OPERATION_OWN;
      operation.opcode = 0;
    }
    this.#disk.fail(EIO);
  }

  #passOnRead(operation: Operation): void {
    const block = this.#engine.blocks.take(READ_REQUEST);
    const { view, bytes } = block;
    bytes.fill(0, 0, READ_REQUEST);
    view.setUint32(IN_LEN, READ_REQUEST, HOST_ENDIAN);
    view.setUint32(IN_OPCODE, FUSE_READ, HOST_ENDIAN);
    view.setUint32(IN_UNIQUE_LO, operation.uniqueLo, HOST_ENDIAN);
    view.setUint32(IN_UNIQUE_HI, operation.uniqueHi, HOST_ENDIAN);
    view.setUint32(IN_NODEID_LO, this.#disk.node.nodeid, HOST_ENDIAN);
    view.setUint32(IN_NODEID_HI, 0, HOST_ENDIAN);
    view.setUint32(IN_PID, operation.pid, HOST_ENDIAN);
    view.setUint32(IO_OFFSET_LO, operation.offsetLo, HOST_ENDIAN);
    view.setUint32(IO_OFFSET_HI, operation.offsetHi, HOST_ENDIAN);
    view.setUint32(IO_SIZE, operation.length, HOST_ENDIAN);
    // It is no part of a stream that the worker knows.
    view.setUint32(IO_FLAGS, O_DIRECT, HOST_ENDIAN);
    this.#passing.request(block, READ_REQUEST);
  }

  #say(message: FromReader): void {
    this.#port.postMessage(message);
  }
}

runThread((port, settings: ReaderSettings) => new Reader(port, settings).run());
