// One connection to a server in its transmission phase: a sender and a reply receiver.
//
// Owned by a Disk, driven by the loop; owns its channel. Never blocks: what that does not take at once
// waits for POLLOUT. Replies of small READs arrive many at a time in one buffer; large payloads are
// received straight into the block of their command, or spliced to the device. The end is told once through
// `owner.connectionLost`: the channel is closed then, or (`giveUp`) read on, since only a reply proves that a change
// has been made; the end of that is told through `owner.connectionClosed`.

import { EAGAIN, EINTR, errnoName } from '../../linux/errno.js';
import { addressOf, errno } from '../../linux/libc.js';
import { NBD_CMD_READ } from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { ReplySink } from '../../nbd/transmission/reply.js';
import { ReplyReceiver } from '../../nbd/transmission/reply-receiver.js';
import { TlsError } from '../../tls/errors.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { SPLICE_DECLINED, SPLICE_EMPTY, SPLICE_END } from '../flight/splice-pipe.js';
import type { BufferPool } from '../memory/buffer-pool.js';
import type { Channel, Peer } from './channel.js';
import { Sender } from './sender.js';

/** READs of this many bytes and more get their payload placed, not copied. */
export const LARGE_READ = 64 * 1024;

/** Bytes of the buffer for replies. */
const IN_BUFFER = 256 * 1024;

/** Room for the header that an answer to the kernel needs before a payload. */
const IN_MARGIN = 32;

/** System calls on one connection before the others have their turn. */
const TURNS = 64;

/** Commands are given to it. */
const STATE_OPEN = 0;
/** Given up: it is read, and the request that has begun to leave is sent to its end. */
const STATE_CLOSING = 1;
const STATE_CLOSED = 2;

/** Receives a connection's replies, and says where payloads land. */
export interface PayloadSink extends ReplySink<NbdCommand> {
  /** The address at which byte `at` of a READ's payload lands. */
  placePayload(command: NbdCommand, at: number): number;
  /**
   * Moves up to `length` bytes of payload out of the socket by splice(2). Returns how many, or a SPLICE_*; after
   * SPLICE_DECLINED the connection calls `placePayload`. @param whole the reply is one chunk
   */
  splicePayload(descriptor: number, command: NbdCommand, at: number, length: number, whole: boolean): number;
}

/** What a connection needs of its owner, a Disk. */
export interface ConnectionOwner {
  readonly buffers: BufferPool;
  /** The connection takes no more commands. @param breach the server broke the protocol */
  connectionLost(connection: Connection, why: string, breach: boolean): void;
  /** A connection that was given up has ended: no reply comes on it any more. */
  connectionClosed(connection: Connection): void;
  /** Counts bytes received from the server and sent to it. */
  moved(received: number, sent: number): void;
}

/** See the file's head. */
export class Connection {
  readonly number: number;
  readonly info: ExportInfo;
  /** The reply buffer and the address of its first byte, for who uses payloads where they lie. */
  readonly inView: DataView;
  readonly inAddress: number;
  /** Place in the loop's poll set. */
  pollIndex = -1;
  /** Commands queued or sent, not answered. */
  inFlight = 0;
  /** Commands in flight whose replies are small. */
  smallInFlight = 0;
  /** Its number among all that its file was given, from 1; 0: not counted. */
  arrival = 0;
  /** Whether it leads to another disk than the one that was there at first. */
  otherDisk = false;
  /** Whether a reply has come that was whole and right. */
  proven = false;
  /** Whether the socket takes no more at the moment. */
  blocked = false;
  /** Milliseconds of the worker's clock of the last sign of life. */
  lastProgress = 0;

  readonly #channel: Channel;
  readonly #sink: PayloadSink;
  readonly #owner: ConnectionOwner;
  readonly #receiver: ReplyReceiver<NbdCommand>;
  readonly #in = new Uint8Array(new ArrayBuffer(IN_MARGIN + IN_BUFFER));
  readonly #largeHeader: number;
  readonly #sender: Sender;
  #state = STATE_OPEN;

  constructor(channel: Channel, number: number, info: ExportInfo, sink: PayloadSink, owner: ConnectionOwner) {
    this.#channel = channel;
    this.#sender = new Sender(channel, info.extendedHeaders, owner.buffers);
    this.number = number;
    this.info = info;
    this.#sink = sink;
    this.#owner = owner;
    this.inView = new DataView(this.#in.buffer);
    this.inAddress = addressOf(this.#in);
    this.#receiver = new ReplyReceiver(info, sink);
    this.#largeHeader = info.extendedHeaders ? 40 : info.structuredReplies ? 28 : 16;
  }

  /** The socket to wait for. */
  get descriptor(): number {
    return this.#channel.descriptor;
  }

  /** Whether no more commands can be given to it. */
  get lost(): boolean {
    return this.#state !== STATE_OPEN;
  }

  /** Whether it was given up, and may still be answered. */
  get closing(): boolean {
    return this.#state === STATE_CLOSING;
  }

  /** The server's process, where that is known for sure. */
  get peer(): Peer | undefined {
    return this.#channel.peer;
  }

  /** How often the kernel has sent the oldest bytes again in vain. */
  get retransmissions(): number {
    return this.#channel.retransmissions;
  }

  /** Whether the server may have a command that is in flight: its first byte at least. */
  hasLeft(command: NbdCommand): boolean {
    return this.#sender.hasLeft(command);
  }

  /** Whether all of a command has left, so that the server can have carried it out. */
  hasLeftWhole(command: NbdCommand): boolean {
    return this.#sender.hasLeftWhole(command);
  }

  /** Whether there is something to send that the socket has not refused. */
  get wantsFlush(): boolean {
    return !this.blocked && !this.flushed;
  }

  /** Whether everything handed over has left for the server. */
  get flushed(): boolean {
    return this.#sender.idle;
  }

  /** Hands a command over; it leaves with the next `flush`. */
  enqueue(command: NbdCommand): void {
    this.inFlight++;
    if (command.type !== NBD_CMD_READ || command.length < LARGE_READ) this.smallInFlight++;
    this.#sender.push(command);
  }

  /** To be called when a reply of `command` is whole. */
  answered(command: NbdCommand): void {
    // That it leads to the same disk is no use yet.
    if (command.waiter === undefined) this.proven = true;
    // A server may answer before it has read the payload: the pages stay its own then.
    if (command.shared && command.buffer !== undefined && this.#sender.isRead(command))
      command.buffer.shared--;
    command.shared = false;
    this.#sender.answered(command);
    this.inFlight--;
    if (command.type !== NBD_CMD_READ || command.length < LARGE_READ) this.smallInFlight--;
  }

  /** Sends what is waiting, as far as the socket takes it. */
  flush(): void {
    if (this.#state === STATE_CLOSED) return;
    const error = this.#sender.flush();
    this.#owner.moved(0, this.#sender.sent);
    if (error === EAGAIN) this.blocked = true;
    else if (error !== 0) this.lose(`sending to the server failed: ${errnoName(error)}`, false);
  }

  /** Takes in what the socket has. */
  receive(now: number): void {
    this.lastProgress = now;
    try {
      // What the channel holds, poll(2) does not tell of: it must not be left there.
      for (let turn = 0; this.#state !== STATE_CLOSED && (turn < TURNS || this.#channel.buffered); turn++) {
        if (!this.#receiveOnce()) return;
      }
    } catch (error) {
      if (error instanceof NbdProtocolError) this.lose(error.message, true);
      else if (error instanceof TlsError) this.lose(error.message, error.breach);
      else throw error;
    }
  }

  /** Ends the connection and tells the owner why. */
  lose(why: string, breach: boolean): void {
    if (this.#state === STATE_CLOSED) return;
    const wasOpen = this.#state === STATE_OPEN;
    // The listener asks for it when it is told.
    const peer = this.peer?.share();
    // What is sent again over another connection must not arrive over this one later.
    this.#channel.dropOnClose();
    this.close();
    if (wasOpen) this.#owner.connectionLost(this, why, breach);
    else this.#owner.connectionClosed(this);
    peer?.release();
  }

  /** Leaves the server in the middle of what it was asked. */
  abort(): void {
    if (this.#state === STATE_CLOSED) return;
    if (this.flushed) this.#sender.sendDisconnect();
    this.lose('given up', false);
  }

  /**
   * Gives commands to it no more, and tells the owner why. It is read until `close`: what the server was sent may be
   * carried out at any time, and only the reply tells when.
   */
  giveUp(why: string): void {
    if (this.#state !== STATE_OPEN) return;
    this.#state = STATE_CLOSING;
    this.#sender.dropUnsent();
    this.#owner.connectionLost(this, why, false);
  }

  /** Says NBD_CMD_DISC, if the socket takes it, and closes. */
  disconnect(): void {
    if (this.#state === STATE_CLOSED) return;
    if (this.flushed) this.#sender.sendDisconnect();
    this.close();
  }

  /** Closes the channel, without a word to anybody. */
  close(): void {
    if (this.#state === STATE_CLOSED) return;
    this.#state = STATE_CLOSED;
    this.#sender.close();
    this.#channel.close();
  }

  /** One system call's worth; false when the socket has no more for now. */
  #receiveOnce(): boolean {
    const pending = this.#receiver.payloadPending;
    const command = this.#receiver.payloadRequest;
    if (pending > 0 && command !== undefined) return this.#receivePayload(command, pending);
    // With nothing but large READs under way, a header is taken alone, so that its payload is left
    // in the socket for where it belongs.
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
      this.lose('the server closed the connection', !this.#receiver.idle);
      return false;
    }
    const error = errno();
    if (error === EINTR) return true;
    if (error !== EAGAIN) this.lose(`receiving from the server failed: ${errnoName(error)}`, false);
    return false;
  }
}
