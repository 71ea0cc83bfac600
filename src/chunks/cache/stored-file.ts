// A file of a cache on disk: reads, writes and holes off the event loop. The crash test has another one.

import type { FileHandle } from 'node:fs/promises';
import { EIO, ENOSYS, EOPNOTSUPP } from '../../constants/errno.js';
import { SystemError } from '../../linux/errno.js';
import { lockContent, unlockContent } from '../../linux/file-lock.js';
import { punchHole } from '../../linux/hole.js';
import { ReadNow } from '../../linux/read-now.js';

/** A file of a cache. Rejections carry the error number of Linux (`errnoOf`). */
export interface StoredFile {
  /** The bytes from `offset` on; fewer at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /**
   * The same bytes, if the kernel has all of them in memory; undefined: `read` must get them. They are valid until the
   * next call.
   */
  readNow(offset: number, length: number): Uint8Array | undefined;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Resolves when all earlier writes are on stable storage. */
  sync(): Promise<void>;
  /** Frees the blocks of a range, which then reads as zeros. False: the file system cannot. */
  punch(offset: number, length: number): Promise<boolean>;
  /** Sets the number of bytes, on stable storage. */
  truncate(size: number): Promise<void>;
  /** Locks the bytes, to change them. False: the kernel reads them in place of a mount. */
  lock(): boolean;
  unlock(): void;
  close(): Promise<void>;
}

/** The error number of a failed operation. */
export function errnoOf(error: unknown): number {
  if (error instanceof SystemError) return error.errno;
  const { errno } = error as { errno?: unknown };
  return typeof errno === 'number' && errno !== 0 ? Math.abs(errno) : EIO;
}

const CANNOT_PUNCH: readonly number[] = [EOPNOTSUPP, ENOSYS];

/** The file of an open handle, which must allow reading and writing. */
export class DiskFile implements StoredFile {
  readonly #handle: FileHandle;
  readonly #memory: ReadNow;

  constructor(handle: FileHandle) {
    this.#handle = handle;
    this.#memory = new ReadNow(handle.fd);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  }

  readNow(offset: number, length: number): Uint8Array | undefined {
    return this.#memory.read(offset, length);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  async punch(offset: number, length: number): Promise<boolean> {
    const errno = await punchHole(this.#handle.fd, offset, length);
    if (CANNOT_PUNCH.includes(errno)) return false;
    if (errno !== 0) throw new SystemError(errno, 'fallocate');
    return true;
  }

  async truncate(size: number): Promise<void> {
    await this.#handle.truncate(size);
    await this.#handle.sync();
  }

  lock(): boolean {
    return lockContent(this.#handle.fd);
  }

  unlock(): void {
    unlockContent(this.#handle.fd);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
