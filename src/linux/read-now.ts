// Reads of a file that do not wait for its disk: preadv2(2) with RWF_NOWAIT.
//
// tmpfs does not know that flag. Its files are memory, for which a read waits no longer than for other memory.

import { statfsSync } from 'node:fs';
import { EAGAIN } from '../constants/errno.js';
import { koffi } from './koffi.js';
import { addressOf, errno } from './libc.js';
import { setVector, VECTOR_SIZE } from './vector.js';

const RWF_NOWAIT = 8;
const TMPFS_MAGIC = 0x01021994;

type Preadv2 = (fd: number, vectors: number, count: number, offset: number, flags: number) => number;

let preadv2: Preadv2 | undefined;

/** @throws Error when the C library has none: musl before 1.2.5 */
function load(): Preadv2 {
  return koffi.load(null).func('preadv2', 'long', ['int', 'size_t', 'int', 'int64', 'int']);
}

function isInMemory(fd: number): boolean {
  try {
    return statfsSync(`/proc/self/fd/${fd}`).type === TMPFS_MAGIC;
  } catch {
    return false;
  }
}

/** Reads those bytes of a file that are in memory. */
export class ReadNow {
  readonly #vector = new DataView(new ArrayBuffer(VECTOR_SIZE));
  readonly #flags: number;
  /** Whether this kernel, file system and C library can. */
  #isPossible = true;

  /** @param fd of the file */
  constructor(fd: number) {
    this.#flags = isInMemory(fd) ? 0 : RWF_NOWAIT;
  }

  /** Fills `bytes`, fewer than 4 GiB, from `offset` on. False: the disk must be read, or the file is shorter. */
  read(fd: number, bytes: Uint8Array, offset: number): boolean {
    if (!this.#isPossible) return false;
    try {
      preadv2 ??= load();
    } catch {
      this.#isPossible = false;
      return false;
    }
    setVector(this.#vector, 0, addressOf(bytes), bytes.length);
    const count = preadv2(fd, addressOf(this.#vector), 1, offset, this.#flags);
    if (count < 0 && errno() !== EAGAIN) this.#isPossible = false;
    return count === bytes.length;
  }
}
