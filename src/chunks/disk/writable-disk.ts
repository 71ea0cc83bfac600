// An export of another server, read through the cache and written through to that server.
//
// Invariant: bytes that a fetch brought are kept only if no change of their unit was under way at any time of the fetch.
// A change forgets its units before it is sent, and nothing of them is kept or shared until its reply has come. Without a
// reply, because the server was lost, it may still be made at any later time: its units are never kept again.

import type { NbdClient } from '../../client/client.js';
import { ENOTCONN } from '../../constants/errno.js';
import { NbdError, NbdServerError } from '../../nbd/errors.js';
import type { AllocationExtent, DiskConnection, DiskProperties, ServedDisk } from '../contract/disk.js';
import { UNIT } from '../contract/units.js';
import type { NbdInput } from '../input/nbd-input.js';
import { ReadError } from '../reader/errors.js';
import { ChangedError, type Reader } from '../reader/reader.js';

function propertiesOf(client: NbdClient, isWritable: boolean): DiskProperties {
  const { minimum, preferred, maximum } = client.blockSizes;
  return {
    size: Number(client.size),
    readOnly: client.readOnly || !isWritable,
    description: client.description,
    blockSizes: { minimum, preferred, maximum },
    canMultiConn: true,
    canFlush: client.canFlush,
    canFua: client.canFua,
    canTrim: client.canTrim,
    canZero: client.canZero,
    canFastZero: client.canFastZero,
    isRotational: client.isRotational,
  };
}

/** The extents of a range, as the server below knows them. */
export async function extentsOf(
  client: NbdClient,
  offset: number,
  length: number,
): Promise<readonly AllocationExtent[]> {
  const status = await client.blockStatus(offset, length, { contexts: ['base:allocation'], one: true });
  return status['base:allocation'].map(({ length: count, flags }) => ({
    length: Number(count),
    hole: (Number(flags) & 1) !== 0,
    zero: (Number(flags) & 2) !== 0,
  }));
}

/** A request has no reply because the server below is lost, or a connection to it: the client's connection must end, too. */
class LostError extends Error {
  override name = 'LostError';
  readonly errno = ENOTCONN;
  readonly isLost = true;
}

/** The error of a request as its client must see it: a loss is no reply of the server. */
function asSeen(error: unknown): unknown {
  const cause = error instanceof ReadError ? error.cause : error;
  const isLoss = cause instanceof NbdError && !(cause instanceof NbdServerError);
  return isLoss ? new LostError(cause.message, { cause }) : error;
}

async function answered<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (error) {
    throw asSeen(error);
  }
}

class WritableConnection implements DiskConnection {
  readonly properties: DiskProperties;
  readonly #client: NbdClient;
  readonly #reader: Reader;

  constructor(client: NbdClient, reader: Reader, isWritable: boolean) {
    this.#client = client;
    this.#reader = reader;
    this.properties = propertiesOf(client, isWritable);
  }

  read(offset: number, length: number): Promise<readonly Uint8Array[]> {
    return answered(this.#read(offset, length));
  }

  async #read(offset: number, length: number): Promise<readonly Uint8Array[]> {
    if (this.#isChanging(offset, length)) return [await this.#client.read(offset, length)];
    try {
      return await this.#reader.read(offset, length);
    } catch (error) {
      if (!(error instanceof ChangedError)) throw error;
      return [await this.#client.read(offset, length)];
    }
  }

  write(offset: number, bytes: Uint8Array, { fua }: { readonly fua?: boolean }): Promise<void> {
    return this.#change(offset, bytes.length, () => this.#client.write(offset, bytes, { fua: fua === true }));
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: boolean; readonly noHole?: boolean; readonly fastZero?: boolean },
  ): Promise<void> {
    return this.#change(offset, length, () => this.#client.zero(offset, length, flags));
  }

  trim(offset: number, length: number, { fua }: { readonly fua?: boolean }): Promise<void> {
    return this.#change(offset, length, () => this.#client.trim(offset, length, { fua: fua === true }));
  }

  flush(): Promise<void> {
    return answered(this.#client.flush());
  }

  extents(offset: number, length: number): Promise<readonly AllocationExtent[]> | undefined {
    return this.#client.canBlockStatus ? answered(extentsOf(this.#client, offset, length)) : undefined;
  }

  onLost(listener: () => void): void {
    void this.#client.closed.then(listener);
  }

  // The client belongs to the input, and serves the others.
  close(): void {}

  #isChanging(offset: number, length: number): boolean {
    const end = Math.ceil((offset + length) / UNIT);
    for (let unit = Math.floor(offset / UNIT); unit < end; unit++) {
      if (this.#reader.isChanging(unit)) return true;
    }
    return false;
  }

  async #change(offset: number, length: number, send: () => Promise<void>): Promise<void> {
    const [first, end] = [Math.floor(offset / UNIT), Math.ceil((offset + length) / UNIT)];
    let isSettled = true;
    try {
      await this.#reader.beginChange(first, end);
      isSettled = false;
      await send();
      isSettled = true;
    } catch (error) {
      isSettled ||= error instanceof NbdServerError;
      throw asSeen(error);
    } finally {
      if (isSettled) this.#reader.endChange(first, end);
    }
  }
}

/** The disk of a server below. @param isWritable whether changes are taken, if that server does */
export function writableDisk(input: NbdInput, reader: Reader, isWritable: boolean): ServedDisk {
  return {
    connect: async () => new WritableConnection(await input.client(), reader, isWritable),
  };
}
