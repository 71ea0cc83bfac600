// One file of the fuse-native backend: reads and writes by Promises, over whatever connection lives.
//
// Used by operations.ts. Requests wait while there is no connection, unless the file has failed; a
// request whose connection is lost is made again on the next one. What the server refuses is thrown.

import { BlockIo } from '../client/block-io.js';
import { ConnectionPool } from '../client/connection-pool.js';
import { NBD_FLAG_SEND_FLUSH } from '../nbd/constants.js';
import { NbdServerError } from '../nbd/errors.js';
import { type ExportInfo, hasFlag } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';

/** A request failed with this errno. */
export class IoError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

const EIO = 5;

/** See the file's head. */
export class DiskIo {
  readonly info: ExportInfo;
  readonly #lost: (why: string) => void;
  #group: ConnectionPool | undefined;
  #io: BlockIo | undefined;
  #failing = 0;
  #waiting: (() => void)[] = [];

  /** @param lost is told when the connection has ended */
  constructor(info: ExportInfo, lost: (why: string) => void) {
    this.info = info;
    this.#lost = lost;
  }

  /** Uses this connection from now on. */
  attach(connection: NegotiatedConnection): void {
    const group = new ConnectionPool(connection);
    this.#group = group;
    this.#io = new BlockIo(group);
    this.#failing = 0;
    void group.closed.then((error) => {
      if (this.#group !== group) return;
      this.#group = undefined;
      this.#io = undefined;
      this.#lost(error.message);
    });
    this.#wake();
  }

  /** Until the next `attach`, whoever would wait gets `errno`. */
  fail(errno: number): void {
    this.#failing = errno;
    this.#wake();
  }

  /** Fills `into` with the bytes from `at` on. @throws IoError */
  read(at: bigint, into: Uint8Array): Promise<void> {
    return this.#persist((io) => io.read(at, into, 0));
  }

  /** Writes `bytes` from `at` on. @throws IoError */
  write(at: bigint, bytes: Uint8Array): Promise<void> {
    return this.#persist((io) => io.write(at, bytes, 0));
  }

  /** Brings what was answered to stable storage, where the server can. @throws IoError */
  async flush(): Promise<void> {
    if (!hasFlag(this.info, NBD_FLAG_SEND_FLUSH)) return;
    await this.#persist((_io, group) => group.flush());
  }

  /** Says goodbye to the server. */
  async close(): Promise<void> {
    const group = this.#group;
    this.#group = undefined;
    this.#io = undefined;
    await group?.close();
  }

  async #persist(action: (io: BlockIo, group: ConnectionPool) => Promise<void>): Promise<void> {
    for (;;) {
      const io = this.#io;
      const group = this.#group;
      if (io === undefined || group === undefined) {
        if (this.#failing !== 0) throw new IoError(this.#failing);
        await new Promise<void>((resolve) => {
          this.#waiting.push(resolve);
        });
        continue;
      }
      try {
        await action(io, group);
        return;
      } catch (error) {
        if (error instanceof NbdServerError) throw new IoError(error.errno ?? EIO);
        // The connection was lost: `attach` or `fail` says how it goes on.
        if (this.#group === group) {
          await group.closed;
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
