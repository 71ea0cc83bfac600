// The sending half of a connection: encodes commands as requests and sends them.
//
// Owned by a Connection. Never blocks: the next `flush` sends what the socket has no room for. One buffer gathers
// headers, so that a batch of small requests costs one system call. The payload of a WRITE is sent from its buffer,
// with or without a copy.

import { EINTR } from '../../constants/errno.js';
import { addressOf, errno } from '../../linux/libc.js';
import { NBD_CMD_WRITE } from '../../nbd/constants.js';
import {
  DISCONNECT,
  EXTENDED_REQUEST_LENGTH,
  encodeRequest,
  REQUEST_LENGTH,
} from '../../nbd/transmission/request.js';
import { COMMAND_SENT, CommandQueue, type NbdCommand } from '../flight/nbd-command.js';
import { assert } from '../memory/assert.js';
import type { BufferPool, PooledBuffer } from '../memory/buffer-pool.js';
import type { Channel } from './channel.js';
import { LEAST_ZERO_COPY } from './zero-copy.js';

/** Size of the header buffer in bytes. */
const BUFFER = 16 * 1024;

/** Upper bound of the kernel's overhead of a message in a Unix socket, in bytes; measured: 768. */
const MESSAGE_OVERHEAD = 1024;
/** The kernel splits large payloads into messages of 64 KiB: at most one byte of overhead per 32; measured: 85. */
const BYTES_PER_OVERHEAD = 32;

/** See the file's head. */
export class Sender {
  /** Bytes that the last `flush` sent. */
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
  /** The command and the buffer of that payload. The command may be answered before the payload is sent. */
  #payloadOf: NbdCommand | undefined;
  #payloadIn: PooledBuffer | undefined;
  /** Accepted bytes and encoded requests since the start. */
  #accepted = 0;
  #requests = 0;
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
   * Whether the server has read the payload of a zero-copy command. It has if the socket contains no more than all that
   * was sent after it: later bytes, and the kernel's overhead of each message.
   */
  isRead(command: NbdCommand): boolean {
    const later = this.#accepted - command.payloadEnd;
    const overhead = (this.#requests - command.requestNumber) * MESSAGE_OVERHEAD + later / BYTES_PER_OVERHEAD;
    return later >= 0 && this.#channel.unread() <= later + overhead;
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
      buffer.shared++;
    }
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
    if (this.#payloadLeft === 0 && this.#payloadIn !== undefined) this.#endPayload();
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
