// One connection in the transmission phase: its sender, and the receiving half around the reply receiver.
//
// Owned by a Disk, driven by the loop; owns its channel. Never blocks. Replies of small READs share one buffer; large
// payloads go straight into the buffer of their command, or to the device by splice(2). `end` is the one way to end it.

import { EAGAIN, EINTR } from '../../constants/errno.js';
import { errnoReason } from '../../linux/errno.js';
import { addressOf, errno } from '../../linux/libc.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { ReplySink } from '../../nbd/transmission/reply.js';
import { ReplyReceiver, readReplyHeader } from '../../nbd/transmission/reply-receiver.js';
import {
  DISCONNECT,
  EXTENDED_REQUEST_LENGTH,
  encodeRequest,
  REQUEST_LENGTH,
} from '../../nbd/transmission/request.js';
import { TlsError } from '../../tls/errors.js';
import { COMMAND_SENT, CommandQueue, type NbdCommand } from '../flight/nbd-command.js';
import { SPLICE_DECLINED, SPLICE_EMPTY, SPLICE_END } from '../flight/splice-pipe.js';
import { assert } from '../memory/assert.js';
import type { BufferPool, PooledBuffer } from '../memory/buffer-pool.js';
import type { Channel, Peer } from './channel.js';
import { LEAST_ZERO_COPY } from './zero-copy.js';

/** Payloads of READs with at least this many bytes are received in place, not copied. */
export const LARGE_READ = 64 * 1024;

/** Size of the reply buffer in bytes. */
const IN_BUFFER = 256 * 1024;

/** Space before the replies, for the FUSE header in front of a payload. */
const IN_MARGIN = 32;

/** Size of the header buffer of a sender in bytes. */
const OUT_BUFFER = 16 * 1024;

/** Most system calls on one connection before the others get their turn. */
const TURNS = 64;

/** Takes commands. */
const STATE_OPEN = 0;
/** Given up: receives replies, and sends the rest of a request that has begun to leave. */
const STATE_CLOSING = 1;
const STATE_CLOSED = 2;

/** Receives the replies of a connection, and decides where payloads go. */
export interface PayloadSink extends ReplySink<NbdCommand> {
  /** The address for byte `at` of the payload of a READ. */
  placePayload(command: NbdCommand, at: number): number;
  /**
   * Moves up to `length` bytes of payload out of the socket by splice(2). Returns a count or a SPLICE_*; after
   * SPLICE_DECLINED the connection calls `placePayload`. @param whole the reply is one chunk
   */
  splicePayload(descriptor: number, command: NbdCommand, at: number, length: number, whole: boolean): number;
}

/** The end of a connection: its manner and its reason. The owner gets a report of all but `finished`. */
export type ConnectionEnd =
  /** The owner needs it no more. It sends NBD_CMD_DISC if the socket has room, and closes. */
  | { readonly manner: 'finished' }
  /**
   * It takes no more commands and receives replies until a second end: the server may carry out a sent command at any
   * time, and only the reply says that it has.
   */
  | { readonly manner: 'given up'; readonly why: string }
  /** The owner closes it in the middle of requests. It discards undelivered bytes. */
  | { readonly manner: 'aborted'; readonly why: string }
  /** The same, as it leads to another disk than the first connection. */
  | { readonly manner: 'other disk'; readonly why: string }
  /** The socket or the server has failed. It discards undelivered bytes. */
  | { readonly manner: 'broken'; readonly why: string; readonly breach: boolean };

/** A connection that takes no more commands. */
export interface Loss {
  readonly why: string;
  /** Whether the server broke the protocol. */
  readonly breach: boolean;
  /** Whether the connection was of use, so that the next attempt may follow at once. */
  readonly madeProgress: boolean;
  readonly otherDisk: boolean;
}

/** The owner of a connection: a Disk. */
export interface ConnectionOwner {
  readonly buffers: BufferPool;
  /** An open connection is lost: it takes no more commands. */
  connectionLost(connection: Connection, loss: Loss): void;
  /** A connection that was given up is closed: no reply can come any more. */
  connectionClosed(connection: Connection): void;
  /** Counts bytes received from the server and sent to it. */
  moved(received: number, sent: number): void;
}

/** See the file's head. */
export class Connection {
  readonly number: number;
  readonly info: ExportInfo;
  /** The reply buffer and its address, for payloads that are used in place. */
  readonly inView: DataView;
  readonly inAddress: number;
  /** Index in the loop's poll set. */
  pollIndex = -1;
  /** Number of unanswered commands. */
  inFlight = 0;
  /** Number of unanswered commands with small replies. */
  smallInFlight = 0;
  /** Number among the connections of the file, from 1; 0: not counted. */
  readonly arrival: number;

  readonly #channel: Channel;
  readonly #sink: PayloadSink;
  readonly #owner: ConnectionOwner;
  readonly #receiver: ReplyReceiver<NbdCommand>;
  readonly #in = new Uint8Array(new ArrayBuffer(IN_MARGIN + IN_BUFFER));
  readonly #largeHeader: number;
  readonly #sender: Sender;
  #state = STATE_OPEN;
  /** Whether a complete and correct reply has arrived. */
  #isProven = false;
  /** Whether the socket is full. */
  #isFull = false;
  #lastProgress = 0;

  /** @param numbers see the fields of the same names */
  constructor(
    channel: Channel,
    numbers: { readonly number: number; readonly arrival: number },
    info: ExportInfo,
    sink: PayloadSink,
    owner: ConnectionOwner,
  ) {
    this.#channel = channel;
    this.#sender = new Sender(channel, info.extendedHeaders, owner.buffers);
    this.number = numbers.number;
    this.arrival = numbers.arrival;
    this.info = info;
    this.#sink = sink;
    this.#owner = owner;
    this.inView = new DataView(this.#in.buffer);
    this.inAddress = addressOf(this.#in);
    this.#receiver = new ReplyReceiver(info, sink);
    this.#largeHeader = readReplyHeader(info);
  }

  /** Time of the last progress, in milliseconds of the worker's clock. */
  get lastProgress(): number {
    return this.#lastProgress;
  }

  /** Whether the socket is full: `hasRoom` follows. */
  get blocked(): boolean {
    return this.#isFull;
  }

  /** The socket has room again. */
  hasRoom(): void {
    this.#isFull = false;
  }

  /** The socket, for poll(2). */
  get descriptor(): number {
    return this.#channel.descriptor;
  }

  /** Whether it takes no more commands. */
  get lost(): boolean {
    return this.#state !== STATE_OPEN;
  }

  /** Whether it was given up and still receives replies. */
  get closing(): boolean {
    return this.#state === STATE_CLOSING;
  }

  /** The server's process, where the kernel proves which one it is. */
  get peer(): Peer | undefined {
    return this.#channel.peer;
  }

  /** How often the kernel has retransmitted the oldest bytes without an acknowledgement. */
  get retransmissions(): number {
    return this.#channel.retransmissions;
  }

  /** Whether the server may have received the first byte of a command. */
  hasLeft(command: NbdCommand): boolean {
    return this.#sender.hasLeft(command);
  }

  /** Whether the server may have received a whole command and carried it out. */
  hasLeftWhole(command: NbdCommand): boolean {
    return this.#sender.hasLeftWhole(command);
  }

  /** Whether there are bytes to send and the socket may have room. */
  get wantsFlush(): boolean {
    return !this.#isFull && !this.flushed;
  }

  /** Whether all commands have reached the socket. */
  get flushed(): boolean {
    return this.#sender.idle;
  }

  /** Takes a command; the next `flush` sends it. @param now milliseconds of the worker's clock */
  enqueue(command: NbdCommand, now: number): void {
    assert(this.#state === STATE_OPEN, 'a connection that is lost gets no commands');
    command.giveTo(this);
    if (this.inFlight === 0) this.#lastProgress = now;
    this.inFlight++;
    if (command.type !== NBD_CMD_READ || command.length < LARGE_READ) this.smallInFlight++;
    this.#sender.push(command);
  }

  /** Records that the reply to `command` is complete. */
  answered(command: NbdCommand): void {
    // The reply to an identity check does not count.
    if (command.waiter === undefined) this.#isProven = true;
    // A server may answer before it has read the payload. Then its socket keeps the pages.
    if (command.shared && command.buffer !== undefined && this.#sender.isRead(command))
      command.buffer.unshare();
    command.shared = false;
    this.#sender.answered(command);
    assert(this.inFlight > 0, 'a connection answers no more commands than it has');
    this.inFlight--;
    if (command.type !== NBD_CMD_READ || command.length < LARGE_READ) this.smallInFlight--;
  }

  /** Sends what the socket has room for. */
  flush(): void {
    if (this.#state === STATE_CLOSED) return;
    const error = this.#sender.flush();
    this.#owner.moved(0, this.#sender.sent);
    if (error === EAGAIN) this.#isFull = true;
    else if (error !== 0) this.#break(`sending to the server failed: ${errnoReason(error)}`, false);
  }

  /** Receives what the socket has. */
  receive(now: number): void {
    this.#lastProgress = now;
    try {
      // poll(2) does not report bytes that the channel has buffered, so all of them are taken here.
      for (let turn = 0; this.#state !== STATE_CLOSED && (turn < TURNS || this.#channel.buffered); turn++) {
        if (!this.#receiveOnce()) return;
      }
    } catch (error) {
      if (error instanceof NbdProtocolError) this.#break(error.message, true);
      else if (error instanceof TlsError) this.#break(error.message, error.breach);
      else throw error;
    }
  }

  /** The only way to end a connection; ConnectionEnd has the manners. A second end of the same manner does nothing. */
  end(end: ConnectionEnd): void {
    if (this.#state === STATE_CLOSED) return;
    const isOpen = this.#state === STATE_OPEN;
    switch (end.manner) {
      case 'given up':
        if (!isOpen) return;
        this.#state = STATE_CLOSING;
        this.#sender.dropUnsent();
        this.#reportLoss(end.why, false, false);
        return;
      case 'finished':
        if (this.flushed) this.#sender.sendDisconnect();
        this.#close();
        return;
      case 'aborted':
      case 'other disk':
        if (this.flushed) this.#sender.sendDisconnect();
        this.#loseNow(end.why, false, end.manner === 'other disk');
        return;
      case 'broken':
        this.#loseNow(end.why, end.breach, false);
    }
  }

  #reportLoss(why: string, breach: boolean, otherDisk: boolean): void {
    const madeProgress = !otherDisk && (this.#isProven || (!breach && this.inFlight === 0));
    this.#owner.connectionLost(this, { why, breach, madeProgress, otherDisk });
  }

  /** Closes the connection in the middle of requests, and reports that. */
  #loseNow(why: string, breach: boolean, otherDisk: boolean): void {
    const wasOpen = this.#state === STATE_OPEN;
    // The owner looks at the peer in its report, after the close has released it.
    const peer = this.peer?.share();
    // A command that is sent again on another connection must not arrive later through this one.
    this.#channel.dropOnClose();
    this.#close();
    if (wasOpen) this.#reportLoss(why, breach, otherDisk);
    else this.#owner.connectionClosed(this);
    peer?.release();
  }

  #close(): void {
    this.#state = STATE_CLOSED;
    this.#sender.close();
    this.#channel.close();
  }

  #break(why: string, breach: boolean): void {
    this.end({ manner: 'broken', why, breach });
  }

  /** Receives once. False: the socket is empty for now, or the connection is closed. */
  #receiveOnce(): boolean {
    const pending = this.#receiver.payloadPending;
    const command = this.#receiver.payloadRequest;
    if (pending > 0 && command !== undefined) return this.#receivePayload(command, pending);
    // With only large READs in flight, a header is received alone, so that splice(2) or recv(2) can take the payload
    // from the socket to its destination.
    const onlyLarge = this.smallInFlight === 0 && this.inFlight > 0;
    const wanted = onlyLarge && this.#receiver.headerPending > 0 ? this.#largeHeader : IN_BUFFER;
    const count = this.#channel.receive(this.inAddress + IN_MARGIN, wanted);
    if (count <= 0) return this.#nothingReceived(count);
    this.#owner.moved(count, 0);
    this.#receiver.receive(this.#in, IN_MARGIN, IN_MARGIN + count);
    return count === wanted;
  }

  #receivePayload(command: NbdCommand, pending: number): boolean {
    const at = this.#receiver.payloadAt;
    const channel = this.#channel;
    const whole = this.#receiver.payloadWhole;
    let count = channel.spliceable
      ? this.#sink.splicePayload(channel.descriptor, command, at, pending, whole)
      : SPLICE_DECLINED;
    if (count === SPLICE_EMPTY) return false;
    if (count === SPLICE_END) return this.#nothingReceived(0);
    if (count === SPLICE_DECLINED) {
      count = channel.receive(this.#sink.placePayload(command, at), pending);
      if (count <= 0) return this.#nothingReceived(count);
    }
    this.#owner.moved(count, 0);
    this.#receiver.landed(count);
    return count === pending;
  }

  #nothingReceived(count: number): boolean {
    if (count === 0) {
      this.#break('the server closed the connection', !this.#receiver.idle);
      return false;
    }
    const error = errno();
    if (error === EINTR) return true;
    if (error !== EAGAIN) this.#break(`receiving from the server failed: ${errnoReason(error)}`, false);
    return false;
  }
}

/**
 * The sending half: encodes commands as requests and sends them. Never blocks: the next `flush` sends what the socket
 * has no room for. One buffer gathers headers, so that a batch of small requests costs one system call. The payload of
 * a WRITE is sent from its buffer, with or without a copy.
 */
export class Sender {
  /** Bytes that the last `flush` sent. */
  sent = 0;
  readonly #channel: Channel;
  readonly #extendedHeaders: boolean;
  readonly #out = new DataView(new ArrayBuffer(OUT_BUFFER));
  readonly #outAddress = addressOf(this.#out);
  readonly #queue = new CommandQueue();
  #start = 0;
  #end = 0;
  #payloadAddress = 0;
  #payloadLeft = 0;
  /** The command and the buffer of that payload. The command may be answered before the payload is sent. */
  #payloadOf: NbdCommand | undefined;
  #payloadIn: PooledBuffer | undefined;
  /** Accepted bytes since the start. */
  #accepted = 0;
  /** Lower bound of the memory that all messages since the start have taken in the socket, in bytes. */
  #occupied = 0;
  readonly #buffers: BufferPool;

  constructor(channel: Channel, extendedHeaders: boolean, buffers: BufferPool) {
    this.#channel = channel;
    this.#extendedHeaders = extendedHeaders;
    this.#buffers = buffers;
  }

  /** Whether all commands have reached the socket. */
  get idle(): boolean {
    return this.#nothingComposed && this.#queue.first === undefined && !this.#channel.unsent;
  }

  /** Takes a command; the next `flush` sends it. */
  push(command: NbdCommand): void {
    this.#queue.push(command);
  }

  /** Sends what the socket has room for. Returns 0 when all is sent, or the errno that stopped it. */
  flush(): number {
    const channel = this.#channel;
    this.sent = 0;
    let mayShare = true;
    for (;;) {
      if (this.#nothingComposed && !this.#compose()) {
        if (!channel.unsent || channel.flush() >= 0) return 0;
      } else {
        const headers = this.#end - this.#start;
        const more = this.#queue.first !== undefined;
        const buffer = mayShare ? this.#shareable() : undefined;
        if (buffer !== undefined && headers === 0) {
          mayShare = this.#sendZeroCopy(buffer, more);
          continue;
        }
        const payload = buffer === undefined ? this.#payloadLeft : 0;
        const address = this.#outAddress + this.#start;
        const count = channel.send(
          address,
          headers,
          this.#payloadAddress,
          payload,
          more || buffer !== undefined,
        );
        if (count >= 0) {
          if (count > 0) this.#occupied += channel.zeroCopy?.messageSize(count) ?? 0;
          this.#advance(count, headers);
          continue;
        }
      }
      const error = errno();
      if (error !== EINTR) return error;
    }
  }

  /** Whether the first byte of a command is sent. The server may have received all of it. */
  hasLeft(command: NbdCommand): boolean {
    return command.state === COMMAND_SENT && command.sentFrom < this.#accepted;
  }

  /** Whether all of a command's payload is sent. */
  hasLeftWhole(command: NbdCommand): boolean {
    return command.payloadEnd <= this.#accepted;
  }

  /**
   * Whether the server has read the payload of a zero-copy command. If it has not, the socket contains at least the
   * last message of the payload and all later ones. A wrong "no" only costs the buffer its pages.
   */
  isRead(command: NbdCommand): boolean {
    const { zeroCopy } = this.#channel;
    if (zeroCopy === undefined || !this.hasLeftWhole(command)) return false;
    const later = this.#occupied - command.occupiedBefore;
    return this.#channel.unread() < zeroCopy.messageSize(1) + later;
  }

  /** Records that a command is answered, perhaps before its whole payload is sent. */
  answered(command: NbdCommand): void {
    if (this.#payloadOf === command) this.#payloadOf = undefined;
  }

  /** Drops all requests of which no byte is sent; `flush` completes the one that has begun to leave. */
  dropUnsent(): void {
    this.#clearQueue();
    const headers = this.#end - this.#start;
    if (headers === 0) return;
    const begun = headers % (this.#extendedHeaders ? EXTENDED_REQUEST_LENGTH : REQUEST_LENGTH);
    this.#end = this.#start + begun;
    if (begun < headers || begun === 0) this.#endPayload();
  }

  /** Releases the buffer of an unsent payload. */
  close(): void {
    this.#clearQueue();
    this.#endPayload();
  }

  /** Sends NBD_CMD_DISC if the socket has room. */
  sendDisconnect(): void {
    const length = encodeRequest(this.#out, 0, this.#extendedHeaders, DISCONNECT);
    this.#channel.sendLast(this.#outAddress, length);
  }

  /** Whether the channel has accepted every encoded byte. */
  get #nothingComposed(): boolean {
    return this.#end === this.#start && this.#payloadLeft === 0;
  }

  /** Encodes commands from the queue, up to and including the first with a payload. */
  #compose(): boolean {
    this.#start = 0;
    this.#end = 0;
    while (this.#end + EXTENDED_REQUEST_LENGTH <= OUT_BUFFER) {
      const command = this.#queue.shift();
      if (command === undefined) break;
      command.sentFrom = this.#accepted + this.#end;
      this.#end += encodeRequest(this.#out, this.#end, this.#extendedHeaders, command);
      command.send();
      command.payloadEnd = this.#accepted + this.#end;
      const { buffer } = command;
      if (command.type === NBD_CMD_WRITE && buffer !== undefined) {
        command.payloadEnd += command.length;
        this.#payloadAddress = buffer.address + command.bufferAt;
        this.#payloadLeft = command.length;
        this.#payloadOf = command;
        this.#payloadIn = buffer;
        buffer.retain();
        break;
      }
    }
    return this.#end > 0;
  }

  /** The buffer of the pending payload if its pages can be shared with the socket. */
  #shareable(): PooledBuffer | undefined {
    if (this.#payloadLeft < LEAST_ZERO_COPY || this.#channel.zeroCopy?.usable !== true) return undefined;
    const buffer = this.#payloadIn;
    return buffer?.shareable === true ? buffer : undefined;
  }

  /** Sends the rest of the payload without a copy. True: the socket has taken all of it. */
  #sendZeroCopy(buffer: PooledBuffer, more: boolean): boolean {
    const { zeroCopy, descriptor } = this.#channel;
    const wanted = this.#payloadLeft;
    const count = zeroCopy?.send(descriptor, this.#payloadAddress, wanted, more) ?? 0;
    if (count > 0 && this.#payloadOf?.shared !== true) {
      // Without a command, no reply will tell when the server has read the pages: they stay shared.
      if (this.#payloadOf !== undefined) this.#payloadOf.shared = true;
      buffer.share();
    }
    this.#occupied += zeroCopy?.splicedSize(count) ?? 0;
    this.#advance(count, 0);
    return count === wanted;
  }

  #advance(count: number, headers: number): void {
    assert(count <= headers + this.#payloadLeft, 'the channel accepts no more bytes than it gets');
    const ofHeaders = Math.min(count, headers);
    this.sent += count;
    this.#accepted += count;
    this.#start += ofHeaders;
    this.#payloadAddress += count - ofHeaders;
    this.#payloadLeft -= count - ofHeaders;
    if (this.#payloadLeft > 0 || this.#payloadIn === undefined) return;
    if (this.#payloadOf !== undefined) this.#payloadOf.occupiedBefore = this.#occupied;
    this.#endPayload();
  }

  /** Its commands belong to another connection, or to none, from now on. */
  #clearQueue(): void {
    while (this.#queue.shift() !== undefined);
  }

  #endPayload(): void {
    if (this.#payloadIn !== undefined) this.#buffers.release(this.#payloadIn);
    this.#payloadLeft = 0;
    this.#payloadIn = undefined;
    this.#payloadOf = undefined;
  }
}
