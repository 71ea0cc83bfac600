// Zero-copy sends: the socket shares the pages of a large payload.
//
// Owned by the engine, used by plain channels. vmsplice(2) puts references to the pages into a pipe, and splice(2)
// moves them into the socket, which holds them until the server has read them. So the pages must not change before
// the reply. Without a reply, the buffer gets new pages before its next use (see BufferPool). Never blocks.

import { EINVAL } from '../../constants/errno.js';
import { isSince } from '../../linux/kernel.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { HAS_USUAL_PAGES } from '../../linux/memory.js';
import { closePipe, type Pipe, SPLICE_F_MORE, SPLICE_F_NONBLOCK, widePipe } from '../../linux/pipe.js';
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

/** See the file's head. */
export class ZeroCopySender {
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
    return ends;
  }

  #close(ends: Pipe): void {
    closePipe(ends);
    this.#pipe = undefined;
  }
}
