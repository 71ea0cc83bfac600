// An export of another server, read through the cache and written through to that server.
//
// Invariant: bytes that a fetch brought are kept only if no change of their unit was under way at any time of the fetch.
// A change forgets its units before it is sent, and nothing of them is kept or shared until its reply has come. Without a
// reply, because the server was lost, it may still be made at any later time: its units are never kept again.
//
// The cache file takes a unit only after a FLUSH that covers its last change (see reader/store). Earlier clients, of a
// mount that was killed, may have left such changes, too: the first client begins with a FLUSH.
//
// A server that comes back after a loss may have another disk. Before anything is read from it, blocks of what memory and
// file keep are compared with it, and if one differs all is forgotten: no reader gets bytes of two disks at a time.

import type { NbdClient } from '../../client/client.js';
import { NbdProtocolError, NbdServerError } from '../../nbd/errors.js';
import type {
  AllocationExtent,
  DiskBytes,
  DiskConnection,
  DiskProperties,
  ReadFlags,
  ReturnedDisk,
  ServedDisk,
} from '../contract/disk.js';
import { UNIT } from '../contract/units.js';
import { ChangedError, type Reader } from '../reader/reader.js';

/** The client of the server below. */
type Client = Pick<
  NbdClient,
  | 'size'
  | 'blockSizes'
  | 'readOnly'
  | 'description'
  | 'canFlush'
  | 'canFua'
  | 'canTrim'
  | 'canZero'
  | 'canFastZero'
  | 'canBlockStatus'
  | 'isRotational'
  | 'read'
  | 'write'
  | 'zero'
  | 'trim'
  | 'flush'
  | 'blockStatus'
> & { readonly info: Pick<NbdClient['info'], 'blockSizes'> };

/** The server below: an NbdInput, or the one of the simulator. */
export interface ServerBelow {
  /** The client, connected. */
  client(): Promise<Client>;
  /** Called when a client has lost its server. */
  onLoss: () => void;
  /** Called with the disk of a server that has come back, before anybody else reads it or changes it. */
  onReturn: (disk: ReturnedDisk) => Promise<void>;
  /** Calls `listener` when a client has lost its server. */
  onLost(client: Client, listener: () => void): Promise<void>;
  /** An error of a client. It has `isLost` set if the server is lost: the request may or may not have been done. */
  lossOf(error: unknown): Promise<unknown>;
}

/** NbdClient takes any range. QEMU aborts where the size of a disk is no multiple of its minimum block size. */
function blockSizesOf({ info, size, blockSizes }: Client): DiskProperties['blockSizes'] {
  const { minimum, preferred, maximum } = blockSizes;
  const isWhole = info.blockSizes !== undefined && size % BigInt(minimum) === 0n;
  return { minimum: isWhole ? minimum : 1, preferred, maximum };
}

function propertiesOf(client: Client, isWritable: boolean): DiskProperties {
  const { minimum, preferred, maximum } = blockSizesOf(client);
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

/** The first extents of a range, as one answer of the server below has them. */
async function extentsOf(
  client: Pick<NbdClient, 'blockStatus'>,
  offset: number,
  length: number,
  isOne: boolean,
): Promise<readonly AllocationExtent[]> {
  const options = { contexts: ['base:allocation'], one: isOne, partial: true };
  const status = await client.blockStatus(offset, length, options);
  return status['base:allocation'].map(({ length: count, flags }) => ({
    length: Number(count),
    hole: (Number(flags) & 1) !== 0,
    zero: (Number(flags) & 2) !== 0,
  }));
}

class WritableConnection implements DiskConnection {
  readonly properties: DiskProperties;
  readonly #input: ServerBelow;
  readonly #client: Client;
  readonly #reader: Reader;

  constructor(input: ServerBelow, client: Client, reader: Reader, isWritable: boolean) {
    this.#input = input;
    this.#client = client;
    this.#reader = reader;
    this.properties = propertiesOf(client, isWritable);
  }

  read(offset: number, length: number, { df }: ReadFlags): DiskBytes | Promise<DiskBytes> {
    if (df) return this.#readAgain(offset, length);
    if (this.#isChanging(offset, length)) return this.#readBelow(offset, length);
    const found = this.#reader.read(offset, length);
    if (!(found instanceof Promise)) return found;
    return found.catch((error: unknown) => {
      if (!(error instanceof ChangedError)) throw error;
      return this.#readBelow(offset, length);
    });
  }

  cache(offset: number, length: number): void {
    this.#reader.use(offset, length);
  }

  async #readBelow(offset: number, length: number): Promise<DiskBytes> {
    return [await this.#ask(this.#client.read(offset, length))];
  }

  write(offset: number, bytes: Uint8Array, { fua }: { readonly fua?: boolean }): Promise<void> {
    const flags = { fua: fua === true };
    return this.#change(offset, bytes.length, flags, () => this.#client.write(offset, bytes, flags));
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: boolean; readonly noHole?: boolean; readonly fastZero?: boolean },
  ): Promise<void> {
    return this.#change(offset, length, flags, () => this.#client.zero(offset, length, flags));
  }

  trim(offset: number, length: number, { fua }: { readonly fua?: boolean }): Promise<void> {
    const flags = { fua: fua === true };
    return this.#change(offset, length, flags, () => this.#client.trim(offset, length, flags));
  }

  flush(): Promise<void> {
    return this.#ask(this.#reader.flush(() => this.#client.flush()));
  }

  extents(offset: number, length: number, isOne: boolean): Promise<readonly AllocationExtent[]> | undefined {
    if (!this.#client.canBlockStatus || this.#reader.hasLeft) return undefined;
    return extentsOf(this.#client, offset, length, isOne).catch(async (error: unknown) => {
      // A wrong answer about extents does not end the connection.
      throw error instanceof NbdProtocolError ? error : await this.#input.lossOf(error);
    });
  }

  onLost(listener: () => void): void {
    void this.#input.onLost(this.#client, listener);
  }

  // The client belongs to the input, and serves the others.
  close(): void {}

  /**
   * Reads past the cache. The worker reads so, with DF, the blocks that tell whether a server that was away has come back
   * with the same disk. If it has not, the cache is emptied, as by `onReturn`, which may have compared other blocks.
   */
  async #readAgain(offset: number, length: number): Promise<DiskBytes> {
    const reader = this.#reader;
    const { changes } = reader;
    const kept = await reader.kept(offset, length);
    const bytes = await this.#ask(this.#client.read(offset, length));
    if (kept !== undefined && changes === reader.changes && Buffer.compare(kept, bytes) !== 0)
      await reader.leaveDisk(!this.properties.readOnly);
    return [bytes];
  }

  /** The answer of the server, or the error for the client. */
  async #ask<T>(answer: Promise<T>): Promise<T> {
    return answer.catch(async (error: unknown) => {
      throw await this.#input.lossOf(error);
    });
  }

  #isChanging(offset: number, length: number): boolean {
    const end = Math.ceil((offset + length) / UNIT);
    for (let unit = Math.floor(offset / UNIT); unit < end; unit++) {
      if (this.#reader.isChanging(unit)) return true;
    }
    return false;
  }

  async #change(
    offset: number,
    length: number,
    { fua }: { readonly fua?: boolean },
    send: () => Promise<void>,
  ): Promise<void> {
    const [first, end] = [Math.floor(offset / UNIT), Math.ceil((offset + length) / UNIT)];
    let isSettled = true;
    // Without FLUSH the server promises that its answer is enough, or nothing at all.
    let isDurable = !this.#client.canFlush;
    try {
      await this.#reader.beginChange(first, end);
      isSettled = false;
      await send();
      isSettled = true;
      isDurable ||= fua === true;
    } catch (error) {
      isSettled ||= error instanceof NbdServerError;
      throw await this.#input.lossOf(error);
    } finally {
      if (isSettled) this.#reader.endChange(first, end, isDurable);
    }
  }
}

/** Keeps only bytes that the server below still has after it was lost. */
export function followServer(
  input: Pick<ServerBelow, 'onLoss' | 'onReturn'>,
  reader: Reader,
  isWritable: boolean,
): void {
  input.onLoss = () => reader.lost();
  input.onReturn = (disk) => reader.compare(disk, isWritable && !disk.readOnly);
}

/** The disk of a server below. @param isWritable whether changes are taken, if that server does */
export function writableDisk(input: ServerBelow, reader: Reader, isWritable: boolean): ServedDisk {
  followServer(input, reader, isWritable);
  return {
    connect: async () => new WritableConnection(input, await input.client(), reader, isWritable),
  };
}

/** Milliseconds that a mount waits for the first FLUSH; the cache file waits longer. */
const FIRST_FLUSH = 1000;

/** Has the server make durable what earlier clients have written, before the cache file takes any of it. */
export async function flushFirst(input: ServerBelow, reader: Reader): Promise<void> {
  const client = await input.client();
  if (!client.canFlush) return;
  reader.distrustAll();
  // If it fails, the next one of the mount may succeed.
  const flushed = reader.flush(() => client.flush()).catch(() => undefined);
  const late = new Promise<void>((resolve) => setTimeout(resolve, FIRST_FLUSH).unref());
  await Promise.race([flushed, late]);
}
