// One connection in the transmission phase: a sender and a reply receiver.
//
// Owned by a Disk, driven by the loop; owns its channel. Never blocks. Replies of small READs share one buffer; large
// payloads go straight into the buffer of their command, or to the device by splice(2). `owner.connectionLost` reports
// the end, once. After `giveUp` the channel stays open for replies, since only a reply proves that the server has
// carried out a change; `owner.connectionClosed` reports its end.

import { EAGAIN, EINTR } from '../../constants/errno.js';
import { errnoName } from '../../linux/errno.js';
import { addressOf, errno } from '../../linux/libc.js';
import { NBD_CMD_READ } from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { ReplySink } from '../../nbd/transmission/reply.js';
import { ReplyReceiver } from '../../nbd/transmission/reply-receiver.js';
import { TlsError } from '../../tls/errors.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { SPLICE_DECLINED, SPLICE_EMPTY, SPLICE_END } from '../flight/splice-pipe.js';
import { assert } from '../memory/assert.js';
import type { BufferPool } from '../memory/buffer-pool.js';
import type { Channel, Peer } from './channel.js';
import { Sender } from './sender.js';

/** Payloads of READs with at least this many bytes are received in place, not copied. */
export const LARGE_READ = 64 * 1024;

/** Size of the reply buffer in bytes. */
const IN_BUFFER = 256 * 1024;

/** Space before the replies, for the FUSE header in front of a payload. */
const IN_MARGIN = 32;

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

/** The owner of a connection: a Disk. */
export interface ConnectionOwner {
  readonly buffers: BufferPool;
  /** The connection takes no more commands. @param breach the server broke the protocol */
  connectionLost(connection: Connection, why: string, breach: boolean): void;
  /** A connection that was given up has ended: no reply can come any more. */
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
  arrival = 0;
  /** Whether it leads to another disk than the first connection. */
  otherDisk = false;
  /** Whether a complete and correct reply has arrived. */
  proven = false;
  /** Whether the socket is full. */
  blocked = false;
  /** Time of the last progress, in milliseconds of the worker's clock. */
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
    return !this.blocked && !this.flushed;
  }

  /** Whether all commands have reached the socket. */
  get flushed(): boolean {
    return this.#sender.idle;
  }

  /** Takes a command; the next `flush` sends it. */
  enqueue(command: NbdCommand): void {
    assert(this.#state === STATE_OPEN, 'a connection that is lost gets no commands');
    this.inFlight++;
    if (command.type !== NBD_CMD_READ || command.length < LARGE_READ) this.smallInFlight++;
    this.#sender.push(command);
  }

  /** Records that the reply to `command` is complete. */
  answered(command: NbdCommand): void {
    // The reply to an identity check does not count.
    if (command.waiter === undefined) this.proven = true;
    // A server may answer before it has read the payload. Then its socket keeps the pages.
    if (command.shared && command.buffer !== undefined && this.#sender.isRead(command))
      command.buffer.shared--;
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
    if (error === EAGAIN) this.blocked = true;
    else if (error !== 0) this.lose(`sending to the server failed: ${errnoName(error)}`, false);
  }

  /** Receives what the socket has. */
  receive(now: number): void {
    this.lastProgress = now;
    try {
      // poll(2) does not report bytes that the channel has buffered, so all of them are taken here.
      for (let turn = 0; this.#state !== STATE_CLOSED && (turn < TURNS || this.#channel.buffered); turn++) {
        if (!this.#receiveOnce()) return;
      }
    } catch (error) {
      if (error instanceof NbdProtocolError) this.lose(error.message, true);
      else if (error instanceof TlsError) this.lose(error.message, error.breach);
      else throw error;
    }
  }

  /** Closes the connection and reports the reason to the owner. */
  lose(why: string, breach: boolean): void {
    if (this.#state === STATE_CLOSED) return;
    const wasOpen = this.#state === STATE_OPEN;
    // The owner looks at the peer in `connectionLost`, after `close` has released it.
    const peer = this.peer?.share();
    // A command that is sent again on another connection must not arrive later through this one.
    this.#channel.dropOnClose();
    this.close();
    if (wasOpen) this.#owner.connectionLost(this, why, breach);
    else this.#owner.connectionClosed(this);
    peer?.release();
  }

  /** Closes the connection at once, in the middle of requests, and discards undelivered bytes. */
  abort(): void {
    if (this.#state === STATE_CLOSED) return;
    if (this.flushed) this.#sender.sendDisconnect();
    this.lose('given up', false);
  }

  /**
   * Stops taking commands and reports the reason to the owner. It receives replies until `close`: the server may carry
   * out a sent command at any time, and only the reply says that it has.
   */
  giveUp(why: string): void {
    if (this.#state !== STATE_OPEN) return;
    this.#state = STATE_CLOSING;
    this.#sender.dropUnsent();
    this.#owner.connectionLost(this, why, false);
  }

  /** Sends NBD_CMD_DISC if the socket has room, and closes. */
  disconnect(): void {
    if (this.#state === STATE_CLOSED) return;
    if (this.flushed) this.#sender.sendDisconnect();
    this.close();
  }

  /** Closes the channel, without a report to the owner. */
  close(): void {
    if (this.#state === STATE_CLOSED) return;
    this.#state = STATE_CLOSED;
    this.#sender.close();
    this.#channel.close();
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
      this.lose('the server closed the connection', !this.#receiver.idle);
      return false;
    }
    const error = errno();
    if (error === EINTR) return true;
    if (error !== EAGAIN) this.lose(`receiving from the server failed: ${errnoName(error)}`, false);
    return false;
  }
}
