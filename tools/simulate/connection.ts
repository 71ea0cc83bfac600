// One simulated connection: both ends, the bytes on their way, and the commands at the server.
//
// The worker's end is a Channel. The simulation decides when the server reads, replies and closes, and when
// bytes arrive. A payload that is sent without a copy stays in its place until the server reads it, and must
// not change meanwhile.

import { EAGAIN, ECONNRESET, EPIPE } from '../../src/constants/errno.js';
import { NBD_CMD_DISC, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from '../../src/nbd/constants.js';
import type { ExportInfo } from '../../src/nbd/export-info.js';
import { commandName } from '../../src/nbd/names.js';
import type { Channel, PayloadSender, Peer } from '../../src/worker/connection/channel.js';
import { setErrno } from './errno.js';
import { peek, poke } from './memory.js';
import { UNIT } from './units.js';
import { Violation } from './violation.js';

/** Descriptors of simulated connections: none that the process has. */
const FIRST_DESCRIPTOR = 1_000_000;

/** Milliseconds before the kernel sends bytes again. */
const FIRST_RETRANSMISSION = 200;

/** Bytes of a message in a Unix socket at most, and those that the kernel adds to each. */
const MESSAGE = 64 * 1024;
const MESSAGE_OVERHEAD = 768;

/** Bytes on their way to the server. */
interface Segment {
  readonly bytes: Uint8Array;
  /** The number of the event at which they were sent. */
  readonly sentAt: number;
  /** Their address in the worker's memory while they are shared with it, else 0. */
  address: number;
  at: number;
}

/** A command at the server. */
export interface ServerCommand {
  readonly type: number;
  readonly flags: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  readonly cookieHi: number;
  readonly cookieLo: number;
  /** Names the command: the same in every history that has this command. */
  readonly key: string;
  readonly payload: Uint8Array | undefined;
  /** The number of the event at which its first byte was sent. */
  readonly sentAt: number;
  /** Bytes of the payload that have been read. */
  got: number;
  executed: boolean;
  replied: boolean;
  /** An errno of NBD. */
  error: number;
  /** The content that a READ has found, by units. */
  found: Uint32Array | undefined;
  /** The step of the generator before which the server ignores it. */
  stalledUntil: number;
}

export function changesDisk({ type }: ServerCommand): boolean {
  return type !== NBD_CMD_READ && type !== NBD_CMD_FLUSH && type <= 6;
}

/** See the file's head. */
export class SimulatedConnection implements Channel {
  readonly c: number;
  readonly file: number;
  readonly slot: number;
  readonly info: ExportInfo;
  readonly descriptor: number;
  readonly spliceable = false;
  readonly buffered = false;
  readonly unsent = false;
  readonly zeroCopy: PayloadSender | undefined;
  client: 'open' | 'closed' = 'open';
  /** Whether the server has closed it. */
  closed = false;
  /** The server's process, and the same if the kernel would report it. */
  readonly process: Peer;
  readonly peer: Peer | undefined;
  /** When the worker had closed it; set by the simulation. */
  closedAt: number | undefined;
  /** When the network began to lose its packets; undefined: it does not. */
  #cutAt: number | undefined;
  /** Whether it leads to the first disk. */
  readonly isFirst: boolean;
  /** Bytes that the server has not read. */
  toRead = 0;
  /** Bytes of replies that have arrived, and that have not. */
  readable = 0;
  onTheWay = 0;
  commands: ServerCommand[] = [];
  /** The step of the generator before which the server does not read from it. */
  unreadUntil = 0;
  readonly #room: number;
  readonly #late: boolean;
  readonly #unix: boolean;
  readonly #header: number;
  #segments: Segment[] = [];
  #replies: Uint8Array[] = [];
  /** Bytes of replies so far, and how many of them the worker has read. */
  #replied = 0;
  #read = 0;
  /** Called when the worker has read so many of them. */
  #whenRead: { readonly count: number; readonly act: () => void }[] = [];
  #reset = false;
  #dropsOnClose = false;
  #head = new Uint8Array(0);
  #headSentAt = 0;
  readonly #event: () => number;
  readonly #now: () => number;
  #receiving: ServerCommand | undefined;

  constructor(
    where: { readonly c: number; readonly file: number; readonly slot: number },
    info: ExportInfo,
    ways: {
      readonly room: number;
      readonly unixSocket: boolean;
      readonly lateReading: boolean;
      readonly process: Peer;
      readonly knowsPeer: boolean;
      readonly isFirst: boolean;
      /** The number of the current event. */
      readonly event: () => number;
      /** Milliseconds. */
      readonly now: () => number;
    },
  ) {
    this.c = where.c;
    this.file = where.file;
    this.slot = where.slot;
    this.info = info;
    this.descriptor = FIRST_DESCRIPTOR + where.c;
    this.#room = ways.room;
    this.process = ways.process;
    this.peer = ways.knowsPeer ? ways.process : undefined;
    this.isFirst = ways.isFirst;
    this.#event = ways.event;
    this.#now = ways.now;
    this.#late = ways.lateReading;
    this.#unix = ways.unixSocket;
    this.#header = info.extendedHeaders ? 32 : 28;
    this.zeroCopy = ways.unixSocket
      ? {
          usable: true,
          send: (_socket, address, length) => this.#share(address, length),
          messageSize: (length) => length + MESSAGE_OVERHEAD,
          splicedSize: (length) => length + Math.ceil(length / MESSAGE) * MESSAGE_OVERHEAD,
        }
      : undefined;
  }

  // The worker's end.

  /** Its events for poll(2). */
  get events(): number {
    if (this.closed && !this.cut) return 1 | 4 | (this.#reset ? 8 : 0) | 16;
    return (this.readable > 0 ? 1 : 0) | (this.#space > 0 ? 4 : 0);
  }

  /** The kernel sends the oldest bytes again after 200 ms, then at doubling intervals. */
  get retransmissions(): number {
    if (this.#cutAt === undefined || this.toRead === 0) return 0;
    return Math.floor(Math.log2((this.#now() - this.#cutAt) / FIRST_RETRANSMISSION + 1));
  }

  receive(address: number, length: number): number {
    if (this.readable === 0) {
      if (this.cut) return setErrno(EAGAIN);
      if (this.#reset) return setErrno(ECONNRESET);
      return this.closed && this.onTheWay === 0 ? 0 : setErrno(EAGAIN);
    }
    const count = Math.min(length, this.readable);
    let at = 0;
    while (at < count) {
      const [first] = this.#replies;
      const part = first.subarray(0, count - at);
      poke(address + at, part);
      at += part.length;
      if (part.length === first.length) this.#replies.shift();
      else this.#replies[0] = first.subarray(part.length);
    }
    this.readable -= count;
    this.#read += count;
    const done = this.#whenRead.filter((one) => one.count <= this.#read);
    this.#whenRead = this.#whenRead.filter((one) => one.count > this.#read);
    for (const { act } of done) act();
    return count;
  }

  send(first: number, firstLength: number, second: number, secondLength: number): number {
    if (this.client !== 'open' || (this.closed && !this.cut)) return setErrno(EPIPE);
    const count = Math.min(this.#space, firstLength + secondLength);
    if (count === 0) return setErrno(EAGAIN);
    const ofFirst = Math.min(count, firstLength);
    if (ofFirst > 0) this.#push(peek(first, ofFirst).slice(), 0);
    if (count > ofFirst) this.#push(peek(second, count - ofFirst).slice(), 0);
    return count;
  }

  flush(): number {
    return 0;
  }

  sendLast(address: number, length: number): void {
    this.send(address, length, 0, 0);
  }

  /** As the kernel counts: whole messages, each with its overhead. */
  unread(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes.length + MESSAGE_OVERHEAD, 0);
  }

  dropOnClose(): void {
    this.#dropsOnClose = !this.#unix;
  }

  close(): void {
    this.client = 'closed';
    if (!this.#late || this.#dropsOnClose) this.#dropUnread();
  }

  // The server's end.

  /** Reads up to so many bytes; returns the commands that are complete now. @throws Violation */
  serverReads(bytes: number): ServerCommand[] {
    const whole: ServerCommand[] = [];
    let left = Math.min(bytes, this.toRead);
    while (left > 0) {
      const [{ sentAt }] = this.#segments;
      const taken = this.#take(left);
      left -= taken.length;
      for (let at = 0; at < taken.length; ) at += this.#understand(taken.subarray(at), sentAt, whole);
    }
    return whole;
  }

  /** Whether the server has read to the worker's end of the connection. */
  get atEnd(): boolean {
    return this.client !== 'open' && this.toRead === 0 && !this.cut;
  }

  /** Whether the network loses its packets. */
  get cut(): boolean {
    return this.#cutAt !== undefined;
  }

  /** The network begins to lose its packets, or to deliver them again. */
  setCut(isCut: boolean): void {
    this.#cutAt = isCut ? this.#now() : undefined;
    if (isCut || !this.closed) return;
    this.deliver(this.onTheWay);
    this.#dropUnread();
  }

  /** @param whenRead is called when the worker has read the whole reply */
  answer(bytes: Uint8Array, whenRead?: () => void): void {
    if (this.closed || this.client === 'closed') return;
    this.#replies.push(bytes);
    this.onTheWay += bytes.length;
    this.#replied += bytes.length;
    if (whenRead !== undefined) this.#whenRead.push({ count: this.#replied, act: whenRead });
  }

  deliver(bytes: number): void {
    const count = Math.min(bytes, this.onTheWay);
    this.onTheWay -= count;
    this.readable += count;
  }

  /** The server closes it; its commands continue. With `reset`, bytes that it has sent may not arrive. */
  serverCloses(reset: boolean): void {
    if (this.closed) return;
    this.closed = true;
    this.#reset = reset;
    if (reset) this.#dropReplies();
    else if (!this.cut) this.deliver(this.onTheWay);
    if (!this.#late) this.#dropUnread();
  }

  /** The server drops what it has not carried out. */
  serverForgets(): void {
    this.#dropUnread();
    this.commands = this.commands.filter(({ executed }) => executed);
  }

  /** The server's process ends and loses everything. */
  serverDies(): void {
    this.commands = [];
    this.#receiving = undefined;
    this.#dropUnread();
    this.serverCloses(false);
  }

  /** Shared pages leave the worker's memory: the sent bytes do not change. */
  unshare(address: number, length: number): void {
    for (const one of this.#segments) {
      if (one.address === 0 || one.address >= address + length || one.address + one.bytes.length <= address)
        continue;
      this.#check(one);
      one.address = 0;
    }
  }

  /** The server finds the end in the middle of a command. */
  dropIncomplete(): void {
    if (this.toRead === 0) this.#dropUnread();
  }

  /** Removes the commands that are finished. */
  tidy(): void {
    const isGone = this.client === 'closed' || this.closed;
    this.commands = this.commands.filter((one) => !(one.executed && (one.replied || isGone)));
  }

  get #space(): number {
    return Math.max(0, this.#room - this.toRead);
  }

  #share(address: number, length: number): number {
    if (this.client !== 'open' || this.closed) return 0;
    const count = Math.min(this.#space, length);
    if (count > 0) this.#push(peek(address, count).slice(), address);
    return count;
  }

  #push(bytes: Uint8Array, address: number): void {
    for (let at = 0; at < bytes.length; at += MESSAGE) {
      const part = bytes.subarray(at, at + MESSAGE);
      const shared = address === 0 ? 0 : address + at;
      this.#segments.push({ bytes: part, sentAt: this.#event(), address: shared, at: 0 });
    }
    this.toRead += bytes.length;
  }

  #take(most: number): Uint8Array {
    const [first] = this.#segments;
    if (first.address !== 0) this.#check(first);
    const taken = first.bytes.subarray(first.at, first.at + most);
    first.at += taken.length;
    this.toRead -= taken.length;
    if (first.at === first.bytes.length) this.#segments.shift();
    return taken;
  }

  #check({ bytes, address, at }: Segment): void {
    const now = peek(address + at, bytes.length - at);
    if (Buffer.compare(now, bytes.subarray(at)) === 0) return;
    throw new Violation('payload changed', `pages that connection ${this.c} still shares were written to`);
  }

  /** Takes in the beginning of `bytes`; returns how many. */
  #understand(bytes: Uint8Array, sentAt: number, whole: ServerCommand[]): number {
    const receiving = this.#receiving;
    if (receiving?.payload !== undefined) {
      const part = bytes.subarray(0, receiving.payload.length - receiving.got);
      receiving.payload.set(part, receiving.got);
      receiving.got += part.length;
      if (receiving.got === receiving.payload.length) {
        this.#receiving = undefined;
        whole.push(receiving);
      }
      return part.length;
    }
    if (this.#head.length === 0) this.#headSentAt = sentAt;
    const part = bytes.subarray(0, this.#header - this.#head.length);
    const head = new Uint8Array(this.#head.length + part.length);
    head.set(this.#head);
    head.set(part, this.#head.length);
    this.#head = head;
    if (head.length === this.#header) {
      this.#head = new Uint8Array(0);
      this.#begin(new DataView(head.buffer), whole);
    }
    return part.length;
  }

  #begin(view: DataView, whole: ServerCommand[]): void {
    const type = view.getUint16(6);
    if (type === NBD_CMD_DISC) return;
    const length = this.info.extendedHeaders ? Number(view.getBigUint64(24)) : view.getUint32(24);
    const offset = Number(view.getBigUint64(16));
    if (offset % UNIT !== 0 || length % UNIT !== 0 || offset + length > Number(this.info.size))
      throw new Violation('crash', `${commandName(type)} offset ${offset} length ${length} is out of bounds`);
    const place = type === NBD_CMD_FLUSH ? '' : ` offset ${offset} length ${length}`;
    const command: ServerCommand = {
      type,
      flags: view.getUint16(4),
      offset,
      length,
      cookieHi: view.getUint32(8),
      cookieLo: view.getUint32(12),
      key: `${commandName(type)}${place}`,
      payload: type === NBD_CMD_WRITE ? new Uint8Array(length) : undefined,
      sentAt: this.#headSentAt,
      got: 0,
      executed: false,
      replied: false,
      error: 0,
      found: undefined,
      stalledUntil: 0,
    };
    this.commands.push(command);
    if (command.payload === undefined) whole.push(command);
    else this.#receiving = command;
  }

  #dropUnread(): void {
    this.#segments = [];
    this.toRead = 0;
    if (this.#receiving !== undefined) this.commands = this.commands.filter((one) => one !== this.#receiving);
    this.#receiving = undefined;
  }

  #dropReplies(): void {
    this.#replies = [];
    this.readable = 0;
    this.onTheWay = 0;
  }
}
