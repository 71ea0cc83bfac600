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
  readonly #fd: number;
  readonly #flags: number;
  readonly #vector = new DataView(new ArrayBuffer(VECTOR_SIZE));
  readonly #vectorAddress = addressOf(this.#vector);
  #bytes = Buffer.allocUnsafeSlow(0);
  #address = 0;
  /** Whether this kernel, file system and C library can. */
  #isPossible = true;

  /** @param fd of the file */
  constructor(fd: number) {
    this.#fd = fd;
    this.#flags = isInMemory(fd) ? 0 : RWF_NOWAIT;
  }

  /**
   * Bytes of the file from `offset` on, at least one and fewer than 4 GiB. They are valid until the next call.
   * @returns undefined: the disk must be read, or the file is shorter
   */
  read(offset: number, length: number): Buffer | undefined {
    this.#reserve(length);
    return this.readTo(this.#address, offset, length) ? this.#bytes.subarray(0, length) : undefined;
  }

  /**
   * Copies those bytes to an address, with room for all of them.
   * @returns false: the disk must be read, or the file is shorter; the memory has any bytes then
   */
  readTo(address: number, offset: number, length: number): boolean {
    if (!this.#isPossible) return false;
    try {
      preadv2 ??= load();
    } catch {
      this.#isPossible = false;
      return false;
    }
    setVector(this.#vector, 0, address, length);
    const count = preadv2(this.#fd, this.#vectorAddress, 1, offset, this.#flags);
    if (count < 0 && errno() !== EAGAIN) this.#isPossible = false;
    return count === length;
  }

  /** Has one memory for all reads: new pages take longer than the copy. */
  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    this.#bytes = Buffer.allocUnsafeSlow(length);
    this.#address = addressOf(this.#bytes);
  }
}
