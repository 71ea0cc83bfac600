// Inspects an image before it is served: its first and last bytes, directly or through a server.
//
// Used by prepare.ts. The server started for an inspection is stopped after it; when it fails, the error
// quotes its standard error.

import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../client/client.js';
import type { ServerAddress } from '../client/target.js';
import { NbdServerError } from '../nbd/errors.js';
import { printable } from '../nbd/text.js';
import { claimedSizes } from '../partitions/claimed-sizes.js';
import type { DiskReader } from '../partitions/table.js';
import { KeptOutput } from '../transport/kept-output.js';
import type { StartedServer } from '../transport/started-server.js';
import { ImageError, ServerLineError } from './errors.js';
import { HEAD_LENGTH } from './reference.js';

/** Bytes of a VHD's footer. */
const TAIL_LENGTH = 512;

/** The first and last bytes of a file or disk. */
export interface Look {
  readonly head: Buffer;
  readonly tail: Buffer;
  /** In bytes; 0 for a device. */
  readonly size: bigint;
  /** A line about an image that is cut short. */
  readonly short?: string | undefined;
  /** Of a disk: whether its server refuses writes. */
  readonly readOnly?: boolean;
}

/** A disk that a server has. */
interface ServedDisk extends DiskReader {
  readonly readOnly: boolean;
}

/** Lets `use` read a local file. @throws Node's errors; the errors of `use` */
export async function withFile<T>(path: string, use: (file: DiskReader) => Promise<T>): Promise<T> {
  const handle = await open(path, 'r');
  try {
    const size = BigInt((await handle.stat()).size);
    const read = async (offset: bigint, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, Number(offset));
      if (bytesRead < length) throw new ImageError(`${printable(path)} has become shorter`);
      return buffer;
    };
    return await use({ size, read });
  } finally {
    await handle.close();
  }
}

/** The first and last bytes of a local file; of a device only the first ones. @throws Node's errors */
export async function lookAtFile(path: string): Promise<Look> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const read = async (length: number, position: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    return {
      head: await read(HEAD_LENGTH, 0),
      tail: size < TAIL_LENGTH ? Buffer.alloc(0) : await read(TAIL_LENGTH, size - TAIL_LENGTH),
      size: BigInt(size),
    };
  } finally {
    await handle.close();
  }
}

const headOf = ({ size, read }: DiskReader): Promise<Buffer> =>
  read(0n, Number(size < HEAD_LENGTH ? size : HEAD_LENGTH));

const tailOf = async ({ size, read }: DiskReader): Promise<Buffer> =>
  size < TAIL_LENGTH ? Buffer.alloc(0) : read(size - BigInt(TAIL_LENGTH), TAIL_LENGTH);

/** The first and last bytes of a disk. */
export async function lookAtDisk(disk: ServedDisk): Promise<Look> {
  const head = await headOf(disk);
  return { head, tail: await tailOf(disk), size: disk.size, readOnly: disk.readOnly };
}

/**
 * The same, of a disk of our chunk server, which may have to unpack all of a file for its last bytes. A disk that says its
 * size has no footer behind it.
 */
export async function lookAtUnpacked(disk: ServedDisk): Promise<Look> {
  const head = await headOf(disk);
  const isWhole = claimedSizes(head).includes(Number(disk.size));
  const tail = isWhole ? Buffer.alloc(0) : await tailOf(disk);
  return { head, tail, size: disk.size, readOnly: disk.readOnly };
}

/** The last line of a running server, in place of its refusal: nbdkit says there why it cannot open an export. */
function explained(error: unknown, { lastLine }: KeptOutput): unknown {
  const last = lastLine.replace(/^nbdfuse: /, '');
  if (!(error instanceof NbdServerError) || last === '') return error;
  return new ServerLineError(last, { cause: error });
}

/**
 * Lets `use` read a server's disk, of a server that runs or is started for this.
 * @throws TransportError, NbdServerError, NbdProtocolError; ImageError with a server's own words; the errors of `use`
 */
export async function withDisk<T>(
  address: ServerAddress,
  signal: AbortSignal | undefined,
  use: (disk: ServedDisk) => Promise<T>,
): Promise<T> {
  const output = new KeptOutput();
  const onStderr = (chunk: Buffer): void => output.take(chunk);
  const client = await NbdClient.connect(address, { signal, onStderr }).catch((error: unknown) => {
    throw explained(error, output);
  });
  return useClient({ client, df: client.canDf, signal }, use);
}

/** @param df whether to read with DF: other servers than ours report an unreadable sector only then */
async function useClient<T>(
  { client, df, signal }: { client: NbdClient; df: boolean; signal: AbortSignal | undefined },
  use: (disk: ServedDisk) => Promise<T>,
): Promise<T> {
  try {
    return await use({
      size: client.size,
      readOnly: client.readOnly,
      read: (offset, length) => client.read(offset, length, { signal, df }),
    });
  } finally {
    await client.close();
  }
}

/** Milliseconds in which a server's line about a failed request arrives. */
const LINE_TIME = 100;

/**
 * The same for a chunk server that goes on afterwards, and closes when this fails. Its last line also explains a failed
 * read. A READ with DF would go past its cache.
 * @throws as withDisk
 */
export async function withStarted<T>(
  started: StartedServer,
  signal: AbortSignal | undefined,
  use: (disk: ServedDisk) => Promise<T>,
): Promise<T> {
  try {
    const client = await NbdClient.over(started.server, { signal });
    return await useClient({ client, df: false, signal }, use);
  } catch (error) {
    if (error instanceof NbdServerError && started.output.isEmpty) await delay(LINE_TIME);
    await started.close();
    throw explained(error, started.output);
  }
}
