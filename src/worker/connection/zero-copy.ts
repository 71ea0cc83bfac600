// Zero-copy sends: the socket shares the pages of a large payload.
//
// Owned by the engine, used by plain channels. vmsplice(2) puts references to the pages into a pipe, and splice(2)
// moves them into the socket, which holds them until the server has read them. So the pages must not change before
// the reply. Without a reply, the buffer gets new pages before its next use (see BufferPool). Never blocks.

import { EINVAL } from '../../constants/errno.js';
import { isSince } from '../../linux/kernel.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { HAS_USUAL_PAGES, PAGE } from '../../linux/memory.js';
import { closePipe, type Pipe, SPLICE_F_MORE, SPLICE_F_NONBLOCK, widePipe } from '../../linux/pipe.js';
import {
  closeDescriptor,
  MSG_DONTWAIT,
  setNonBlocking,
  socketpair,
  unreadBytes,
} from '../../linux/socket.js';
import { setVector, VECTOR_SIZE } from '../../linux/vector.js';

/** Smallest payload in bytes that is sent without a copy; copying a smaller one is faster. */
export const LEAST_ZERO_COPY = 64 * 1024;

/** Pipe sizes to try, in bytes. An unprivileged user gets 1 MiB; a smaller pipe is no faster than a copy. */
const PIPE_SIZES = [1024 * 1024];

/**
 * Whether zero-copy sends are faster than copies on a kernel release. Before 6.5, splice(2) moves one page at a time
 * and wakes the server for each.
 */
export function canSendZeroCopy(release: string): boolean {
  return HAS_USUAL_PAGES && isSince(release, 6, 5);
}

/** Lower bound of the kernel's own memory for a message: struct sk_buff and struct skb_shared_info, 576 bytes. */
const LEAST_OVERHEAD = 512;

/** The kernel splices this many bytes into one message, 16 pages, unless `#measure` finds longer messages. */
const SPLICED_MESSAGE = 64 * 1024;

/** See the file's head. */
export class ZeroCopySender {
  /** Memory of the shortest message in a socket, and the longest spliced message, in bytes. */
  #leastMessage = LEAST_OVERHEAD;
  #longestSpliced = Number.POSITIVE_INFINITY;
  #isMeasured = false;
  readonly #vector = new DataView(new ArrayBuffer(VECTOR_SIZE));
  readonly #vectorAddress = addressOf(this.#vector);
  #pipe: Pipe | undefined;
  #able: boolean;

  constructor(able: boolean) {
    this.#able = able;
  }

  /** Whether it is worth trying: no attempt has failed for good. */
  get usable(): boolean {
    return this.#able;
  }

  /**
   * Sends up to `length` bytes at `address` to a socket without a copy. Returns the count of accepted bytes: fewer
   * if the socket is full, 0 also if zero-copy is impossible. The next plain send reports the reason. `more`: more
   * follows soon.
   */
  send(socket: number, address: number, length: number, more: boolean): number {
    this.#pipe ??= this.#open();
    let at = 0;
    while (at < length && this.#pipe !== undefined) {
      const piped = this.#fill(this.#pipe, address + at, length - at);
      if (piped <= 0) return at;
      const follows = more || at + piped < length;
      const flags = SPLICE_F_NONBLOCK | (follows ? SPLICE_F_MORE : 0);
      const count = libc.splice(this.#pipe.read, 0, socket, 0, piped, flags);
      if (count > 0) at += count;
      if (count === piped) continue;
      if (count < 0 && errno() === EINVAL) this.#able = false;
      // Bytes left in the pipe would precede the next payload.
      this.#close(this.#pipe);
      return at;
    }
    return at;
  }

  /** Lower bound of the memory that a message of `length` bytes takes in a Unix socket; see `unreadBytes`. */
  messageSize(length: number): number {
    return Math.max(this.#leastMessage, length + LEAST_OVERHEAD);
  }

  /** The same of `length` bytes that `send` has sent. */
  splicedSize(length: number): number {
    return length + this.#leastMessage * Math.ceil(length / this.#longestSpliced);
  }

  /** Measures messages on a socket of its own. Without a result the lower bounds stay. */
  #measure(): void {
    const pipe = widePipe(PIPE_SIZES);
    if (pipe === undefined) return;
    const memory = new Uint8Array(new ArrayBuffer(SPLICED_MESSAGE + 2 * PAGE));
    const start = Math.ceil(addressOf(memory) / PAGE) * PAGE;
    const [near, far] = socketpair();
    setNonBlocking(near);
    const overhead = (length: number, send: () => number): number => {
      const before = unreadBytes(near);
      return send() === length ? unreadBytes(near) - before - length : 0;
    };
    const spliced = (length: number): number =>
      overhead(length, () => {
        this.#fill(pipe, start, length);
        return libc.splice(pipe.read, 0, near, 0, length, SPLICE_F_NONBLOCK);
      });
    const least = Math.min(
      spliced(PAGE),
      overhead(1, () => libc.send(near, start, 1, MSG_DONTWAIT)),
    );
    if (least > LEAST_OVERHEAD) this.#leastMessage = least;
    if (least > 0 && spliced(SPLICED_MESSAGE + PAGE) >= 2 * least) this.#longestSpliced = SPLICED_MESSAGE;
    closePipe(pipe);
    closeDescriptor(near);
    closeDescriptor(far);
  }

  /** Puts references to pages into the pipe. Returns the count of bytes. */
  #fill({ write }: Pipe, address: number, length: number): number {
    setVector(this.#vector, 0, address, length);
    const piped = libc.vmsplice(write, this.#vectorAddress, 1, SPLICE_F_NONBLOCK);
    if (piped <= 0) this.#able = false;
    return piped;
  }

  #open(): Pipe | undefined {
    const ends = widePipe(PIPE_SIZES);
    if (ends === undefined) this.#able = false;
    else if (!this.#isMeasured) this.#measure();
    this.#isMeasured = true;
    return ends;
  }

  #close(ends: Pipe): void {
    closePipe(ends);
    this.#pipe = undefined;
  }
}
