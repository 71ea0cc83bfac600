// A read thread: answers READs over a connection of its own, beside the worker.
//
// The session adds it to a mount of one file with --threads. It reads requests from a clone of the device's descriptor,
// and forwards to the worker every request that is no READ, and every READ while its connection is lost or a change is
// in flight: the order of changes, recovery and interrupts stay with the worker.

import type { MessagePort } from 'node:worker_threads';
import { EIO } from '../../constants/errno.js';
import { O_DIRECT } from '../../constants/open-flags.js';
import { POLLIN } from '../../constants/poll-events.js';
import { FUSE_READ } from '../../fuse/constants.js';
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
} from '../../fuse/layout.js';
import { Tree } from '../../fuse/tree.js';
import { PeerProcesses } from '../../linux/peer.js';
import { PollSet } from '../../linux/poll.js';
import type { Connection, Loss } from '../connection/connection.js';
import { openChannel } from '../connection/open-channel.js';
import { type Call, deliver, type Send, sender } from '../contract/call.js';
import type { Attachment, FromReadThread, ReadThreadSettings, ToReadThread } from '../contract/messages.js';
import { MAX_TRANSFER } from '../device/device.js';
import { REAL_SYSTEM } from '../device/system.js';
import { Disk } from '../disk/disk.js';
import { type FuseRequest, SPECULATIVE } from '../flight/fuse-request.js';
import { describe } from '../fuse/files.js';
import { Loop, type LoopControl, type RequestTaker } from '../loop/loop.js';
import { takeCalls } from '../loop/thread.js';
import { Watchdog } from '../loop/watchdog.js';
import { LASTING_MEMORY } from '../memory/memory.js';
import { Ranges } from '../memory/ranges.js';
import { Engine, type EngineEvents } from '../request/engine.js';
import { type ReadPlaces, startRead } from '../request/read.js';
import { Trace } from '../request/trace.js';
import { Forwarding } from './forwarding.js';
import { RingProducer } from './ring.js';

/** Bytes of payload in use at which no new request is taken from the kernel. */
const MEMORY_LIMIT = 64 * 1024 * 1024;

/** Untaken forwarded requests at which no new request is taken from the kernel. */
const MOST_PENDING = 128;

/** Bytes of a FUSE_READ. */
const READ_REQUEST = IN_HEADER + 40;

/** The device, the pipe, the connection, and spare places. */
const POLL_CAPACITY = 8;

const NO_PLACES: ReadPlaces = { prefetched: undefined, kept: undefined };

/** See the file's head. */
export class ReadThread implements EngineEvents, LoopControl, RequestTaker {
  readonly wakeDescriptor: number;
  readonly #port: MessagePort;
  readonly #send: Send<FromReadThread>;
  readonly #readAhead: boolean;
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #ring: RingProducer;
  readonly #forwarding: Forwarding;
  readonly #loop: Loop;
  readonly #watchdog: Watchdog;
  readonly #peers = new PeerProcesses();
  readonly #calls: ToReadThread = {
    attach: (attachment) => this.#attach(attachment),
    interrupted: (uniqueHi, uniqueLo) => this.#interrupted(uniqueHi, uniqueLo),
    stop: (now) => this.#stopReading(now),
  };
  readonly #take = (call: Call<ToReadThread>): void => deliver<ToReadThread>(call, this.#calls);
  #deviceGone = false;
  #stop: 'not' | 'when all is forwarded' | 'now' = 'not';

  constructor(port: MessagePort, settings: ReadThreadSettings) {
    this.#port = port;
    this.#send = sender((call) => port.postMessage(call));
    const { device, wake, file, memory, workerWake, fileMountpoint, tree, trace, timeout, readAhead } =
      settings;
    if (file.info === undefined) throw new Error('a read thread needs to know its file');
    this.wakeDescriptor = wake;
    this.#readAhead = readAhead;
    this.#engine = new Engine(
      {
        descriptor: device,
        unflushedLimit: 0,
        wholeReads: false,
        keepExtents: false,
        kernelHoldsWrites: false,
        largestPayload: MAX_TRANSFER,
        memoryLimit: MEMORY_LIMIT,
        settleTime: settings.settleTime,
      },
      trace === undefined ? undefined : new Trace(trace, REAL_SYSTEM),
      this,
      { ...REAL_SYSTEM, memory: LASTING_MEMORY },
    );
    const [node] = new Tree([describe(file)], fileMountpoint, tree).files();
    this.#ring = new RingProducer(memory, workerWake);
    this.#disk = new Disk(0, node, file.info, this.#engine, this.#ring.counters);
    this.#forwarding = new Forwarding(this.#ring, this.#engine.buffers);
    const disks = [this.#disk];
    this.#loop = new Loop(this.#engine, this, disks, new PollSet(POLL_CAPACITY), this);
    this.#loop.stopListening();
    this.#watchdog = new Watchdog({
      engine: this.#engine,
      disks,
      timeout,
      parked: undefined,
      prefetched: undefined,
    });
  }

  run(): void {
    this.#send('started');
    try {
      this.#loop.run();
    } catch (error) {
      this.#failAndWait(error);
    } finally {
      for (const connection of this.#disk.connections) connection.end({ manner: 'finished' });
    }
  }

  /** Reports a defect, and waits for the worker's end: the worker may still read forwarded requests in this memory. */
  #failAndWait(error: unknown): void {
    this.#stop = 'when all is forwarded';
    this.#send('failed', error instanceof Error ? (error.stack ?? error.message) : String(error));
    const poll = new PollSet(1);
    poll.add(this.wakeDescriptor, POLLIN);
    // The type checker does not see that messages change it.
    const isOver = (): boolean => this.#stop === 'now';
    while (!isOver()) {
      poll.wait(-1);
      this.takeCalls();
    }
  }

  dispatch(length: number): void {
    const { device } = this.#engine;
    const { view } = device.buffer;
    if (!this.#canAnswer(view)) {
      this.#forwarding.received(device, length);
      return;
    }
    startRead(this.#engine, NO_PLACES, this.#disk, view);
  }

  connectionClosed(): void {
    // Only a connection with changes in flight stays open after its loss.
  }

  connectionAccepted(): void {
    // The session has checked the server before.
  }

  connectionLost(_disk: Disk, connection: Connection, { why }: Loss): void {
    this.#loop.unwatch(connection);
    this.#forwardReads();
    if (this.#stop === 'not') this.#send('connectionLost', why);
  }

  warn(): void {
    // A thread that only reads loses no write.
  }

  wroteBeyondEnd(): void {
    // The worker handles writes.
  }

  syncWanted(): void {
    // The worker handles LSEEK.
  }

  takeCalls(): void {
    takeCalls<ToReadThread>(this.#port, this.wakeDescriptor, this.#take);
  }

  unmounted(): void {
    this.#deviceGone = true;
  }

  turn(now: number): boolean {
    this.#forwarding.advance();
    this.#watchdog.look(now);
    const isToListen = this.#canRead && !this.#deviceGone && this.#forwarding.pending < MOST_PENDING;
    if (isToListen) this.#loop.listenAgain();
    else this.#loop.stopListening();
    this.#ring.publish(this.#canRead, this.#engine.requests.count);
    return this.#stop === 'now' || (this.#stop !== 'not' && this.#forwarding.pending === 0);
  }

  patience(): number {
    // The worker takes entries without a signal.
    return this.#forwarding.pending > 0 ? 1 : this.#watchdog.patience;
  }

  get #canRead(): boolean {
    return this.#stop === 'not' && !this.#disk.waiting;
  }

  #canAnswer(view: DataView): boolean {
    if (view.getUint32(IN_OPCODE, HOST_ENDIAN) !== FUSE_READ || !this.#canRead) return false;
    // The worker orders reads behind a change in flight.
    if (this.#ring.changing) return false;
    if (view.getUint32(IN_NODEID_LO, HOST_ENDIAN) !== this.#disk.node.nodeid) return false;
    // The worker reads ahead for reads through the page cache from a remote server, and must see all of them.
    return !this.#readAhead || !this.#ring.remote || (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DIRECT) !== 0;
  }

  #attach(attachment: Attachment): void {
    const channel = openChannel(attachment, this.#engine.zeroCopy, this.#peers);
    const { connection, info } = attachment;
    if (this.#stop === 'not') this.#loop.watch(this.#disk.attach(channel, connection, info));
    else channel.close();
  }

  /** The request may have been forwarded. */
  #interrupted(uniqueHi: number, uniqueLo: number): void {
    if (!this.#engine.interruptRequest(uniqueHi, uniqueLo)) this.#forwarding.interrupt(uniqueHi, uniqueLo);
  }

  #stopReading(now: boolean): void {
    if (this.#stop === 'not') {
      this.#stop = 'when all is forwarded';
      this.#forwardReads();
      this.#disk.failAll(EIO, new Ranges());
    }
    if (now) this.#stop = 'now';
  }

  /** Forwards all unanswered READs to the worker. */
  #forwardReads(): void {
    for (const request of this.#engine.requests.unansweredSince(Number.POSITIVE_INFINITY)) {
      this.#forwardRead(request);
      request.markAnswered();
      // Keeps it out of the counters and the trace of this thread.
      request.kind = SPECULATIVE;
      request.opcode = 0;
    }
    this.#disk.fail(EIO);
  }

  #forwardRead(request: FuseRequest): void {
    const buffer = this.#engine.buffers.take(READ_REQUEST);
    const { view, bytes } = buffer;
    bytes.fill(0, 0, READ_REQUEST);
    view.setUint32(IN_LEN, READ_REQUEST, HOST_ENDIAN);
    view.setUint32(IN_OPCODE, FUSE_READ, HOST_ENDIAN);
    view.setUint32(IN_UNIQUE_LO, request.uniqueLo, HOST_ENDIAN);
    view.setUint32(IN_UNIQUE_HI, request.uniqueHi, HOST_ENDIAN);
    view.setUint32(IN_NODEID_LO, this.#disk.node.nodeid, HOST_ENDIAN);
    view.setUint32(IN_NODEID_HI, 0, HOST_ENDIAN);
    view.setUint32(IN_PID, request.pid, HOST_ENDIAN);
    view.setUint32(IO_OFFSET_LO, request.offsetLo, HOST_ENDIAN);
    view.setUint32(IO_OFFSET_HI, request.offsetHi, HOST_ENDIAN);
    view.setUint32(IO_SIZE, request.length, HOST_ENDIAN);
    // Keeps it out of the worker's sequential streams.
    view.setUint32(IO_FLAGS, O_DIRECT, HOST_ENDIAN);
    this.#forwarding.request(buffer, READ_REQUEST);
  }
}
