// Inspects an image on a web server before it is served: whether the server answers ranges, and the first and last
// bytes.
//
// Used by prepare.ts. Starts nbdkit with a trace, whose answers web.ts judges: nbdkit itself does not look at them.

import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../client/client.js';
import { withoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import type { DiskReader } from '../partitions/table.js';
import { type NbdServer, openServer } from '../transport/server.js';
import { ImageError } from './errors.js';
import { formatOfContent } from './formats.js';
import { type Look, lookAtDisk } from './look.js';
import { nbdkitServer } from './nbdkit.js';
import { shownOf, type WebSource } from './source.js';
import { truncationOf } from './truncated.js';
import {
  conditionOf,
  DOWNLOAD,
  disagreementOf,
  type Exchange,
  failureOf,
  flawOf,
  isTransient,
  TRACE_FLAGS,
  versionOf,
  WebTrace,
} from './web.js';

/** Milliseconds that a web server may be silent; less than the limit of a handshake, which has no such message. */
const SILENCE_TIME = 25_000;
/** Milliseconds before each further attempt. */
const PAUSES = [1000, 2000];

/** The result of an inspection. */
interface WebLook {
  readonly look: Look;
  /** See WebSource. */
  readonly condition: string | undefined;
  /** See versionOf. */
  readonly version: string;
}

/** There is no answer from the web server. */
export class UnreachableError extends ImageError {}

/** A failure that another attempt may not have. At the last attempt the server counts as unreachable. */
class TransientError extends UnreachableError {}

/** The error of answers that do not have the right bytes. */
function flawed(source: WebSource, why: string): ImageError {
  return new ImageError(
    `${shownOf(source)}: the web server cannot serve parts of the file: ${printable(why)}; ${DOWNLOAD}`,
  );
}

/** The error of an nbdkit that could not read the file. */
function failed(source: WebSource, trace: WebTrace, error: unknown): ImageError {
  const failure = printable(error instanceof Error ? error.message : String(error));
  const why = withoutSecrets(printable(failureOf(trace, failure)));
  const isSilent = (trace.exchanges.at(-1)?.status ?? '') === '';
  const Kind = isTransient(trace) ? TransientError : isSilent ? UnreachableError : ImageError;
  return new Kind(`cannot read ${shownOf(source)}: ${why}`, { cause: error });
}

/**
 * Lets `use` read the file through an nbdkit, and judges each answer of the web server as it comes.
 * @param onAnswer called when the headers of an answer are complete
 * @throws ImageError; the reason of `signal`
 */
async function withTrace<T>(
  source: WebSource,
  signal: AbortSignal | undefined,
  use: (disk: DiskReader) => Promise<T>,
  onAnswer?: (exchanges: readonly Exchange[]) => void,
): Promise<{ readonly found: T; readonly exchanges: readonly Exchange[] }> {
  const trace = new WebTrace();
  const stop = new AbortController();
  const late = `${shownOf(source)}: the web server did not answer within ${SILENCE_TIME / 1000} s; try again later`;
  const silent = setTimeout(() => stop.abort(new UnreachableError(late)), SILENCE_TIME);
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const onStderr = (chunk: Buffer): void => {
    silent.refresh();
    trace.take(chunk);
    const last = trace.exchanges.at(-1);
    if (last === undefined || !trace.isComplete) return;
    // nbdkit would read a whole file that comes in place of a part.
    const why = flawOf(last);
    if (why !== undefined) stop.abort(flawed(source, why));
    else onAnswer?.(trace.exchanges);
  };
  const argv = nbdkitServer({ source: { ...source, canRetry: false }, readOnly: true }, TRACE_FLAGS);
  let server: NbdServer | undefined;
  let client: NbdClient | undefined;
  try {
    server = await openServer({ target: { kind: 'socket-activation', argv }, exportName: '' }, { onStderr });
    const disk = await NbdClient.over(server, { signal: either });
    client = disk;
    const read: DiskReader['read'] = (offset, length) => disk.read(offset, length, { signal: either });
    const found = await use({ size: disk.size, read });
    await disk.close();
    // It ends while the next server starts.
    server.close().catch(() => undefined);
    return { found, exchanges: trace.exchanges };
  } catch (error) {
    // nbdkit ends when its client is gone. It does not answer while it reads a large file.
    client?.close().catch(() => undefined);
    // The rest of the trace arrives until then.
    await server?.close();
    if (either.aborted) throw either.reason;
    throw error instanceof ImageError ? error : failed(source, trace, error);
  } finally {
    clearTimeout(silent);
  }
}

/** Reads the parts that show the format, and one of them again from its middle. @throws ImageError */
async function readParts(source: WebSource, disk: DiskReader): Promise<{ look: Look; size: bigint }> {
  if (disk.size === 0n)
    throw new ImageError(`${shownOf(source)}: the web server says that the file is empty; check the URL`);
  const look = await lookAtDisk({ ...disk, readOnly: true });
  const middle = look.head.length >> 1;
  const again = await disk.read(BigInt(middle), look.head.length - middle);
  if (!again.equals(look.head.subarray(middle)))
    throw flawed(source, `it gives other bytes for the place ${middle} when a request begins there`);
  const short = await truncationOf(shownOf(source), formatOfContent(look.head), look.head, disk);
  return { look: { ...look, short }, size: disk.size };
}

/**
 * Whether the web server accepts requests with a condition: some refuse it although the file has not changed.
 * @throws UnreachableError; the reason of `signal`
 */
async function acceptsCondition(source: WebSource, condition: string, signal: AbortSignal): Promise<boolean> {
  try {
    await withTrace({ ...source, condition }, signal, ({ read, size }) => read(size - 1n, 1));
    return true;
  } catch (error) {
    if (error instanceof UnreachableError || signal.aborted) throw error;
    return false;
  }
}

/** The check of the condition that the first answer names, which runs while the file is inspected. */
class EarlyCheck {
  readonly #source: WebSource;
  readonly #signal: AbortSignal;
  #condition: string | undefined;
  #result: Promise<boolean | undefined> | undefined;

  constructor(source: WebSource, signal: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
  }

  take(exchanges: readonly Exchange[]): void {
    const condition = conditionOf(exchanges);
    const isFirst = exchanges.length === 1 && /^2/.test(exchanges[0].status);
    if (!isFirst || condition === undefined || this.#result !== undefined) return;
    this.#condition = condition;
    this.#result = acceptsCondition(this.#source, condition, this.#signal).catch(() => undefined);
  }

  /** Undefined when this condition has not been checked, or when the web server may have failed only because of two requests at once. */
  async of(condition: string): Promise<boolean | undefined> {
    return condition === this.#condition ? this.#result : undefined;
  }

  /** Resolves when its server has ended. */
  async ended(): Promise<void> {
    await this.#result;
  }
}

/**
 * One inspection.
 * @param early undefined: one request after the other
 * @param isLast take a web server that fails to answer the condition, and nothing else, as one that refuses it
 */
async function inspect(
  source: WebSource,
  signal: AbortSignal,
  early: EarlyCheck | undefined,
  isLast: boolean,
): Promise<WebLook> {
  const { found, exchanges } = await withTrace(
    source,
    signal,
    (disk) => readParts(source, disk),
    (answered) => early?.take(answered),
  );
  const { look, size } = found;
  const why = exchanges.map((one) => flawOf(one, size)).find((one) => one !== undefined);
  if (why !== undefined) throw flawed(source, why);
  const odd = disagreementOf(exchanges);
  if (odd !== undefined) throw flawed(source, odd);
  const version = versionOf(exchanges);
  const condition = conditionOf(exchanges);
  if (condition === undefined) return { look, condition, version };
  const isAccepted =
    (await early?.of(condition)) ??
    (await acceptsCondition(source, condition, signal).catch((error: unknown) => {
      if (isLast && error instanceof TransientError) return false;
      throw error;
    }));
  return { look, condition: isAccepted ? condition : undefined, version };
}

/**
 * Inspects a file on a web server; repeats a request that the server fails to answer.
 * @throws ImageError with the status of the server and the next step; the reason of `signal`
 */
export async function lookAtWeb(source: WebSource, signal: AbortSignal | undefined): Promise<WebLook> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const early = new EarlyCheck(source, either);
  try {
    for (const [attempt, pause] of PAUSES.entries()) {
      try {
        // Not every web server allows two requests at once.
        return await inspect(source, either, attempt === 0 ? early : undefined, false);
      } catch (error) {
        if (!(error instanceof TransientError)) throw error;
        await delay(pause, undefined, { signal }).catch(() => undefined);
        signal?.throwIfAborted();
      }
    }
    return await inspect(source, either, undefined, true);
  } finally {
    stop.abort();
    await early.ended();
  }
}
