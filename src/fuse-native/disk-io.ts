// One file of the fuse-native backend: reads and writes with Promises over the current connection.
//
// Used by operations.ts. Without a connection requests wait, unless the file has failed. A request whose connection is
// lost is repeated on the next one. An error of the server is thrown.

import { BlockIo } from '../client/block-io.js';
import { ConnectionPool } from '../client/connection-pool.js';
import { EIO } from '../constants/errno.js';
import { capabilitiesOf } from '../nbd/capabilities.js';
import { NBD_CMD_FLAG_DF } from '../nbd/constants.js';
import { NbdServerError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';

/** A request failed with `errno`. */
export class IoError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

/** See the file's head. */
export class DiskIo {
  readonly info: ExportInfo;
  readonly #lost: (why: string) => void;
  #pool: ConnectionPool | undefined;
  #io: BlockIo | undefined;
  #failing = 0;
  #waiting: (() => void)[] = [];

  /** @param lost is called when a connection has ended */
  constructor(info: ExportInfo, lost: (why: string) => void) {
    this.info = info;
    this.#lost = lost;
  }

  /** Sets the connection. */
  attach(connection: NegotiatedConnection): void {
    const pool = new ConnectionPool(connection.info);
    pool.add(connection);
    this.#pool = pool;
    this.#io = new BlockIo(pool);
    this.#failing = 0;
    void pool.closed.then((error) => {
      if (this.#pool !== pool) return;
      this.#pool = undefined;
      this.#io = undefined;
      this.#lost(error.message);
    });
    this.#wake();
  }

  /** Fails with `errno` all requests that would wait for a connection, until the next `attach`. */
  fail(errno: number): void {
    this.#failing = errno;
    this.#wake();
  }

  /** Fills `into` with the bytes from offset `at` on. @throws IoError */
  read(at: bigint, into: Uint8Array): Promise<void> {
    // qemu-nbd reports the error of a whole reply; of one in parts it disconnects.
    const flags = capabilitiesOf(this.info).df ? NBD_CMD_FLAG_DF : 0;
    return this.#persist((io) => io.read(at, into, flags));
  }

  /** Writes `bytes` at offset `at`. @throws IoError */
  write(at: bigint, bytes: Uint8Array): Promise<void> {
    return this.#persist((io) => io.write(at, bytes, 0));
  }

  /** Makes answered writes durable if the server has FLUSH. @throws IoError */
  async flush(): Promise<void> {
    if (!capabilitiesOf(this.info).flush) return;
    await this.#persist((_io, pool) => pool.flush());
  }

  /** Disconnects, with NBD_CMD_DISC. */
  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    this.#io = undefined;
    await pool?.close();
  }

  async #persist(action: (io: BlockIo, pool: ConnectionPool) => Promise<void>): Promise<void> {
    for (;;) {
      const io = this.#io;
      const pool = this.#pool;
      if (io === undefined || pool === undefined) {
        if (this.#failing !== 0) throw new IoError(this.#failing);
        await new Promise<void>((resolve) => {
          this.#waiting.push(resolve);
        });
        continue;
      }
      try {
        await action(io, pool);
        return;
      } catch (error) {
        if (error instanceof NbdServerError) throw new IoError(error.errno ?? EIO);
        // The connection was lost: the next `attach` or `fail` decides.
        if (this.#pool === pool) {
          await pool.closed;
          await Promise.resolve();
        }
      }
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }
}
