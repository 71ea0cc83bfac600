// One file of the fuse-native backend: reads and writes with Promises over the current connection.
//
// Used by operations.ts. Without a connection requests wait, unless the file has failed. The invariant of
// client/change-ledger.ts decides what becomes of a request whose connection is lost. All errors are thrown as IoError.

import { BlockIo } from '../client/block-io.js';
import { ConnectionPool, type Loss } from '../client/connection-pool.js';
import { EIO } from '../constants/errno.js';
import { capabilitiesOf } from '../nbd/capabilities.js';
import { NBD_CMD_FLAG_DF } from '../nbd/constants.js';
import { NbdError, NbdServerError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { reasonOf } from '../transport/errors.js';

/** A request failed with `errno`. */
export class IoError extends Error {
  readonly errno: number;

  constructor(errno: number, message = `errno ${errno}`) {
    super(message);
    this.errno = errno;
  }
}

/** How a file treats lost connections. */
export interface LossOptions {
  /** Milliseconds after a loss in which the server has made or dropped its changes; or Infinity. */
  readonly settleTime: number;
  /** Called when a connection has ended. */
  readonly lost: (loss: Loss) => void;
}

/** See the file's head. */
export class DiskIo {
  readonly info: ExportInfo;
  readonly #pool: ConnectionPool;
  readonly #io: BlockIo;

  constructor(info: ExportInfo, { settleTime, lost }: LossOptions) {
    this.info = info;
    this.#pool = new ConnectionPool(info, { waits: true, settleTime, onLost: lost });
    this.#io = new BlockIo(this.#pool);
  }

  /** Adds the next connection. */
  attach(connection: NegotiatedConnection): void {
    this.#pool.add(connection);
  }

  /** Fails with `errno` all requests that would wait for a connection, until the next `attach`. */
  fail(errno: number): void {
    this.#pool.fail(new NbdError('there is no server', { errno }));
  }

  /** Returns a function to call when the server of the connections lost so far has ended. */
  whenServerEnds(): () => void {
    return this.#pool.whenServerEnds();
  }

  /** Fills `into` with the bytes from offset `at` on. @throws IoError */
  read(at: bigint, into: Uint8Array): Promise<void> {
    // qemu-nbd reports the error of a whole reply; of one in parts it disconnects.
    const flags = capabilitiesOf(this.info).df ? NBD_CMD_FLAG_DF : 0;
    return ioErrors(this.#io.read(at, into, flags));
  }

  /** Writes `bytes` at offset `at`. @throws IoError */
  write(at: bigint, bytes: Uint8Array): Promise<void> {
    const range = { start: at, end: at + BigInt(bytes.length) };
    return ioErrors(this.#pool.change(range, () => this.#io.write(at, bytes, 0)));
  }

  /** Makes answered writes durable if the server has FLUSH. @throws IoError */
  async flush(): Promise<void> {
    if (capabilitiesOf(this.info).flush) await ioErrors(this.#pool.flush());
  }

  /** Disconnects, with NBD_CMD_DISC. */
  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** The result of a request. Only an error that the server has answered has an errno of its own. */
async function ioErrors(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const errno = error instanceof NbdServerError ? error.errno : undefined;
    throw new IoError(errno ?? EIO, reasonOf(error));
  }
}
