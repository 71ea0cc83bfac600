// Large payloads to the server without a copy: the socket is lent the pages in which they lie.
//
// Owned by the engine, used by plain channels. vmsplice(2) puts references to the pages into a pipe, and
// splice(2) moves them on into the socket, where they stay until the server has taken them. So they must not
// change before its reply; where none comes, the block gets other pages before it is used again (see Blocks).
// Never blocks.

import { EINVAL } from '../../linux/errno.js';
import { isSince } from '../../linux/kernel.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { HAS_USUAL_PAGES } from '../../linux/memory.js';
import { closePipe, type Pipe, SPLICE_F_MORE, SPLICE_F_NONBLOCK, widePipe } from '../../linux/pipe.js';
import { setVector, VECTOR_SIZE } from '../../linux/vector.js';

/** Payloads of fewer bytes are copied sooner than lent. */
export const LEAST_ZERO_COPY = 64 * 1024;

/** Bytes of the pipe, which a normal user gets, too. Through a smaller one, copying is as quick. */
const PIPE_SIZES = [1024 * 1024];

/**
 * Whether a kernel of this release can be lent pages to advantage: before 6.5 it takes them one by one, waiting for
 * the server's turn at the socket and waking it each time.
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

  /** Whether it is worth trying. */
  get usable(): boolean {
    return this.#able;
  }

  /**
   * Lends up to `length` bytes at `address` to a socket; `more` follows soon. Returns how many it has taken: fewer
   * when it is full, 0 also when nothing can be lent. Why, sending tells.
   */
  send(socket: number, address: number, length: number, more: boolean): number {
    this.#pipe ??= this.#open();
    let at = 0;
    while (at < length && this.#pipe !== undefined) {
      const held = this.#hold(this.#pipe, address + at, length - at);
      if (held <= 0) return at;
      const follows = more || at + held < length;
      const flags = SPLICE_F_NONBLOCK | (follows ? SPLICE_F_MORE : 0);
      const count = libc.splice(this.#pipe.read, 0, socket, 0, held, flags);
      if (count > 0) at += count;
      if (count === held) continue;
      if (count < 0 && errno() === EINVAL) this.#able = false;
      // What the socket has no room for must not stay in the pipe.
      this.#close(this.#pipe);
      return at;
    }
    return at;
  }

  /** Puts references to pages into the pipe: how many bytes of them. */
  #hold({ write }: Pipe, address: number, length: number): number {
    setVector(this.#vector, 0, address, length);
    const held = libc.vmsplice(write, this.#vectorAddress, 1, SPLICE_F_NONBLOCK);
    if (held <= 0) this.#able = false;
    return held;
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
