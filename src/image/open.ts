// Opens an image by its name, as a client of the server that can read it.
//
// The library's entry point to this directory, and the errors of an image's server, which the command line uses too. Loads
// the rest when the first image is opened.

import { checkTimes, clientBy, type NbdClient } from '../client/client.js';
import { connectorOf } from '../client/connector.js';
import type { ClientOptions, ConnectOptions } from '../client/options.js';
import { endpointOf } from '../client/target.js';
import { writeToStderr } from '../linux/stderr.js';
import { NbdArgumentError, NbdError } from '../nbd/errors.js';
import { printableSink } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { type NbdServer, openServer } from '../transport/server.js';
import { contradictionOf } from './contradictions.js';
import { ImageError } from './errors.js';
import type { RequestedFormat } from './formats.js';
import type { KeepRequest } from './keep-request.js';
import type { ImageRequest, PreparedImage } from './prepare.js';

/** Options of `openImage`. They mean what the options of the command line mean: see nbdfuse(1). */
export interface ImageOptions
  extends KeepRequest,
    Pick<ConnectOptions, 'connections' | 'onStderr' | 'signal' | 'settleTime'> {
  /**
   * Seconds that requests wait for a lost server, 0 or more; Infinity: for ever. Programs that the image needs are started
   * again when they have ended. Default: the client is closed with its last connection. Not with `overlay: true`.
   */
  readonly reconnect?: number;
  /** The format, such as `qcow2`, `raw` or `raw.xz`; default: the one that name and content of the image agree on. */
  readonly format?: string;
  /** Open the image without a change; default: false. */
  readonly readOnly?: boolean;
  /** Linux's number of a partition, from 1 on; default: the whole disk. */
  readonly partition?: number;
  /** The name of a file in an archive. */
  readonly member?: string;
  /** The name or the number of a snapshot in a qcow2 image. */
  readonly snapshotName?: string;
  /** Where writes go instead of the image: `true` into a file that is thrown away, a string the path of one that is kept. */
  readonly overlay?: boolean | string;
  /** The path of a file with the key of an encrypted image. */
  readonly keyFile?: string;
  /** Whether to open the image read-only and without locks, while another program writes to it; default: false. */
  readonly share?: boolean;
  /** Whether the image may name files in other directories, and files whose format it does not record; default: false. */
  readonly allowReferences?: boolean;
  /** Receives what the command line would print: the format and the servers of the image, and warnings. */
  readonly onMessage?: (line: string) => void;
}

/** The format that a caller names. @throws NbdArgumentError */
async function formatOf(word: string | undefined): Promise<RequestedFormat> {
  if (word === undefined) return { format: undefined, compression: undefined };
  const { FORMAT_NAMES, parseFormatWord } = await import('./formats.js');
  const found = parseFormatWord(String(word));
  if (found !== undefined) return found;
  throw new NbdArgumentError(
    `bad format: it must be one of ${FORMAT_NAMES.join(', ')}, or a combination such as qcow2.xz`,
  );
}

/** @throws NbdArgumentError when options contradict each other, or have the wrong type */
function check(name: unknown, options: ImageOptions): void {
  const { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, partition, overlay } = options;
  if (typeof name !== 'string' || name === '')
    throw new NbdArgumentError('bad image: it must be a path, a URL or an NBD URI', {
      code: 'ERR_INVALID_ARG_TYPE',
    });
  const texts = Object.entries({
    cacheFile,
    cacheDir,
    trace: options.trace,
    keyFile: options.keyFile,
    overlay,
  });
  const empty = texts.find(([, value]) => value === '');
  if (empty !== undefined) throw new NbdArgumentError(`bad ${empty[0]}: it must be a path`);
  const sizes = Object.entries({ cacheSize, cacheMemory, prefetch, partition });
  const wrong = sizes.find(([, value]) => value !== undefined && !(typeof value === 'number' && value > 0));
  if (wrong !== undefined)
    throw new NbdArgumentError(`bad ${wrong[0]}: it must be a number above 0`, { code: 'ERR_OUT_OF_RANGE' });
  const why = contradictionOf(
    { ...options, overlay: overlay !== undefined && overlay !== false },
    (one) => one,
  );
  if (why !== undefined) throw new NbdArgumentError(why);
  checkTimes(options);
  if (options.reconnect !== undefined && overlay === true)
    throw new NbdArgumentError(
      'reconnect would lose the writes in the temporary overlay: name a file for the overlay',
    );
}

async function requestOf(name: string, options: ImageOptions): Promise<ImageRequest> {
  check(name, options);
  const { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace, overlay } = options;
  const { readOnly = false, share = false, allowReferences = false } = options;
  const { keyFile, member, snapshotName, partition } = options;
  return {
    ...{ name, keyFile, member, snapshotName, partition, readOnly, share, allowReferences },
    requested: await formatOf(options.format),
    overlay: typeof overlay === 'string' ? { path: overlay } : overlay ? 'temporary' : undefined,
    keep: { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace },
  };
}

/** The error of an image's server, in words that name the next step where nbdfuse knows it. */
export async function explainedFailure(error: unknown, { name, keyFile }: ImageRequest): Promise<unknown> {
  const { explainedLock } = await import('./lock.js');
  const { explainedKey } = await import('./encryption.js');
  const { explainedOpen } = await import('./qemu-error.js');
  return explainedOpen(explainedKey(explainedLock(error), name, keyFile), name);
}

/** The options of a client that are those of an image, too. */
function clientOptions({ connections, signal, reconnect, settleTime }: ImageOptions): ClientOptions {
  return { connections, signal, reconnect, settleTime };
}

/** Connects to the server of an export that is the disk itself. */
async function connectToExport(uri: string, options: ImageOptions): Promise<NbdClient> {
  const server = await openServer(endpointOf(uri, {}), { onStderr: options.onStderr });
  const connector = { ...connectorOf(server), readOnly: options.readOnly === true };
  try {
    return await clientBy(connector, { ...clientOptions(options), onClosed: () => server.close() });
  } catch (error) {
    await server.close();
    throw error;
  }
}

async function connect(prepared: PreparedImage, options: ImageOptions): Promise<NbdClient> {
  const { argv, directory, started, locks } = prepared;
  const { onStderr } = options;
  const target = { kind: 'socket-activation', argv, directory } as const;
  let server: NbdServer | undefined = started?.server;
  const end = async (): Promise<void> => {
    try {
      await server?.close();
    } finally {
      locks?.release();
    }
  };
  try {
    for (const line of prepared.lines) options.onMessage?.(line);
    server ??= await openServer({ target, exportName: '' }, { onStderr });
    started?.output.passOn(onStderr ?? printableSink(writeToStderr));
    const { imageConnector } = await import('./connector.js');
    return await clientBy(imageConnector(server), { ...clientOptions(options), onClosed: end });
  } catch (error) {
    await end();
    throw error;
  }
}

/**
 * Opens a disk image: a file, a URL, or an export of an NBD server, in any format that nbdfuse(1) knows. Starts the
 * programs that can read it, which `close` ends.
 * @param name a path, an `http`, `https`, `ftp`, `ssh` or `file` URL, or an NBD URI
 * @throws ImageError when the image cannot be served; NbdArgumentError, TransportError, NbdServerError,
 *   NbdProtocolError, or the signal's reason
 */
export async function openImage(name: string, options: ImageOptions = {}): Promise<NbdClient> {
  const { signal } = options;
  const request = await requestOf(name, options);
  signal?.throwIfAborted();
  const { prepareImage } = await import('./prepare.js');
  const { isExportItself } = await import('./export-itself.js');
  try {
    if (await isExportItself(request, signal)) return await connectToExport(name, options);
    const prepared = await prepareImage(request, { signal });
    return await connect(prepared, options).catch(async (error: unknown) => {
      await prepared.undo();
      throw error;
    });
  } catch (error) {
    const failure = await explainedFailure(error, request);
    throw signal?.aborted || failure instanceof NbdError
      ? failure
      : new ImageError(reasonOf(failure), { cause: failure });
  }
}
