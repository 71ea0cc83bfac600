// The sending half of a connection: commands become requests, and these leave for the server.
//
// Owned by a Connection. Never blocks: what the socket does not take at once waits for the next `flush`.
// Headers gather in one buffer, so that a batch of small requests costs one system call; a WRITE's payload
// is sent from its block, or its pages are lent to the socket.

import { EINTR } from '../../linux/errno.js';
import { addressOf, errno } from '../../linux/libc.js';
import { NBD_CMD_WRITE } from '../../nbd/constants.js';
import {
  DISCONNECT,
  EXTENDED_REQUEST_LENGTH,
  encodeRequest,
  REQUEST_LENGTH,
} from '../../nbd/transmission/request.js';
import { COMMAND_SENT, CommandQueue, type NbdCommand } from '../flight/nbd-command.js';
import type { BufferPool, PooledBuffer } from '../memory/buffer-pool.js';
import type { Channel } from './channel.js';
import { LEAST_ZERO_COPY } from './zero-copy.js';

/** Bytes of the buffer for gathered headers. */
const BUFFER = 16 * 1024;

/** Bytes that the kernel adds to a message in a Unix socket; measured: 768. */
const MESSAGE_OVERHEAD = 1024;
/** Of a large payload it makes messages of 64 KiB: one byte more for so many; measured: 85. */
const BYTES_PER_OVERHEAD = 32;

/** See the file's head. */
export class Sender {
  /** Bytes that the last `flush` has sent. */
  sent = 0;
  readonly #channel: Channel;
  readonly #extendedHeaders: boolean;
  readonly #out = new DataView(new ArrayBuffer(BUFFER));
  readonly #outAddress = addressOf(this.#out);
  readonly #queue = new CommandQueue();
  #start = 0;
  #end = 0;
  #payloadAddress = 0;
  #payloadLeft = 0;
  /** Whose payload that is, and where it lies: a server may answer before it has been sent. */
  #payloadOf: NbdCommand | undefined;
  #payloadIn: PooledBuffer | undefined;
  /** Bytes that the channel has accepted, and requests that were put into the stream, since the start. */
  #accepted = 0;
  #requests = 0;
  readonly #buffers: BufferPool;

  constructor(channel: Channel, extendedHeaders: boolean, buffers: BufferPool) {
    this.#channel = channel;
    this.#extendedHeaders = extendedHeaders;
    this.#buffers = buffers;
  }

  /** Whether everything handed over has left for the server. */
  get idle(): boolean {
    return this.#nothingComposed && this.#queue.first === undefined && !this.#channel.unsent;
  }

  /** Hands a command over; it leaves with the next `flush`. */
  push(command: NbdCommand): void {
    this.#queue.push(command);
  }

  /** Sends what is waiting, as far as the socket takes it: 0, or the errno for which something still waits. */
  flush(): number {
    const channel = this.#channel;
    this.sent = 0;
    let mayLend = true;
    for (;;) {
      if (this.#nothingComposed && !this.#compose()) {
        if (!channel.unsent || channel.flush() >= 0) return 0;
      } else {
        const headers = this.#end - this.#start;
        const more = this.#queue.first !== undefined;
        const buffer = mayLend ? this.#lendable() : undefined;
        if (buffer !== undefined && headers === 0) {
          mayLend = this.#lend(buffer, more);
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
          this.#advance(count, headers);
          continue;
        }
      }
      const error = errno();
      if (error !== EINTR) return error;
    }
  }

  /** Whether the first byte of a command has left; the server may have all of it then. */
  hasLeft(command: NbdCommand): boolean {
    return command.state === COMMAND_SENT && command.sentFrom < this.#accepted;
  }

  /** Whether all of a command's payload has left. */
  hasLeftWhole(command: NbdCommand): boolean {
    return command.payloadEnd <= this.#accepted;
  }

  /**
   * Whether the server has read the payload of a command whose pages the socket was lent. What else the socket holds
   * was sent later: its bytes, and what the kernel adds to each message.
   */
  isRead(command: NbdCommand): boolean {
    const later = this.#accepted - command.payloadEnd;
    const overhead = (this.#requests - command.requestNumber) * MESSAGE_OVERHEAD + later / BYTES_PER_OVERHEAD;
    return later >= 0 && this.#channel.unread() <= later + overhead;
  }

  /** A command is over, maybe before all of its payload has been sent. */
  answered(command: NbdCommand): void {
    if (this.#payloadOf === command) this.#payloadOf = undefined;
  }

  /** Forgets what has not begun to leave; the request that has will be sent to its end. */
  dropUnsent(): void {
    while (this.#queue.shift() !== undefined);
    const headers = this.#end - this.#start;
    if (headers === 0) return;
    const begun = headers % (this.#extendedHeaders ? EXTENDED_REQUEST_LENGTH : REQUEST_LENGTH);
    this.#end = this.#start + begun;
    if (begun < headers || begun === 0) this.#endPayload();
  }

  /** Lets go of what it holds. */
  close(): void {
    this.#endPayload();
  }

  /** Says NBD_CMD_DISC, if the socket takes it. */
  sendDisconnect(): void {
    const length = encodeRequest(this.#out, 0, this.#extendedHeaders, DISCONNECT);
    this.#channel.sendLast(this.#outAddress, length);
  }

  /** Whether every byte of what was composed has been handed to the channel. */
  get #nothingComposed(): boolean {
    return this.#end === this.#start && this.#payloadLeft === 0;
  }

  /** Moves commands from the queue into the buffer, up to the first payload. */
  #compose(): boolean {
    this.#start = 0;
    this.#end = 0;
    while (this.#end + EXTENDED_REQUEST_LENGTH <= BUFFER) {
      const command = this.#queue.shift();
      if (command === undefined) break;
      command.sentFrom = this.#accepted + this.#end;
      this.#end += encodeRequest(this.#out, this.#end, this.#extendedHeaders, command);
      command.state = COMMAND_SENT;
      command.requestNumber = ++this.#requests;
      command.payloadEnd = this.#accepted + this.#end;
      const { buffer } = command;
      if (command.type === NBD_CMD_WRITE && buffer !== undefined) {
        command.payloadEnd += command.length;
        this.#payloadAddress = buffer.address + command.bufferAt;
        this.#payloadLeft = command.length;
        this.#payloadOf = command;
        this.#payloadIn = buffer;
        buffer.references++;
        break;
      }
    }
    return this.#end > 0;
  }

  /** The payload's block where the socket can be lent its pages. */
  #lendable(): PooledBuffer | undefined {
    if (this.#payloadLeft < LEAST_ZERO_COPY || this.#channel.zeroCopy?.usable !== true) return undefined;
    const buffer = this.#payloadIn;
    return buffer?.shareable === true ? buffer : undefined;
  }

  /** Lends what is left of the payload: true when the socket has taken all of it. */
  #lend(buffer: PooledBuffer, more: boolean): boolean {
    const { zeroCopy, descriptor } = this.#channel;
    const wanted = this.#payloadLeft;
    const count = zeroCopy?.send(descriptor, this.#payloadAddress, wanted, more) ?? 0;
    if (count > 0 && this.#payloadOf?.shared !== true) {
      // Without a command nobody will say that it has been read: the pages stay the socket's.
      if (this.#payloadOf !== undefined) this.#payloadOf.shared = true;
      buffer.shared++;
    }
    this.#advance(count, 0);
    return count === wanted;
  }

  #advance(count: number, headers: number): void {
    const ofHeaders = Math.min(count, headers);
    this.sent += count;
    this.#accepted += count;
    this.#start += ofHeaders;
    this.#payloadAddress += count - ofHeaders;
    this.#payloadLeft -= count - ofHeaders;
    if (this.#payloadLeft === 0 && this.#payloadIn !== undefined) this.#endPayload();
  }

  #endPayload(): void {
    if (this.#payloadIn !== undefined) this.#buffers.release(this.#payloadIn);
    this.#payloadLeft = 0;
    this.#payloadIn = undefined;
    this.#payloadOf = undefined;
  }
}
