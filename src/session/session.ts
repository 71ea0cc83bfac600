// One mount that is ready: its end, and its orderly stop, on the main thread.
//
// Made by start.ts, used by process.ts.

import type { Mountpoint } from '../mount/mountpoint.js';
import type { StopOutcome } from '../worker/contract/messages.js';
import type { Status } from '../worker/contract/status.js';
import type { Backend } from './backend/backend.js';
import type { Cleanup } from './cleanup.js';
import { Deadline } from './deadline.js';
import type { Served } from './file-keeper.js';
import type { Report } from './settings.js';
import { type UnmountResult, unmountInOrder } from './unmount.js';

/** Milliseconds in which an orderly stop ends, whatever the server does. */
const STOP_TIME = 10_000;

/** Milliseconds by which a backend may exceed its time limit. */
const STOP_SLACK = 1000;

/** Why a session ends. */
export type Ending =
  | { readonly kind: 'unmounted' }
  | { readonly kind: 'signal'; readonly name: string }
  | { readonly kind: 'crash'; readonly why: string };

/** The parts of a session. */
export interface SessionParts {
  readonly report: Report;
  readonly mountpoint: Mountpoint;
  readonly backend: Backend;
  /** The files that have connections, or wait for them. */
  readonly served: () => readonly Served[];
  /** Resolves when the session has to end. */
  readonly ended: Promise<Ending>;
  /** Closes everything that was opened besides the mount: pidfile, servers. */
  readonly cleanup: Cleanup;
}

/** A mounted and ready session. */
export class Session {
  readonly #parts: SessionParts;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  /** Resolves when the session has to end. */
  get ended(): Promise<Ending> {
    return this.#parts.ended;
  }

  /** The status of each file that is in use, with its absolute path. */
  async status(): Promise<readonly { readonly path: string; readonly status: Status }[]> {
    const { backend, served } = this.#parts;
    const statuses = await backend.status();
    const pathOf = (file: number): string => served().find((one) => one.file === file)?.path ?? '';
    return statuses.map(({ file, status }) => ({ path: pathOf(file), status }));
  }

  /** Reports the status of each file. */
  async reportStatus(report: Report): Promise<void> {
    for (const { path, status } of await this.status()) report.status(path, status);
  }

  /**
   * Ends the session: writes out, flushes, disconnects, unmounts, ends and reaps children, within
   * about ten seconds; `hurry` cuts the waiting short. Returns the exit status.
   */
  async stop(ending: Ending, hurry: AbortSignal): Promise<number> {
    const { cleanup, report } = this.#parts;
    const deadline = new Deadline(STOP_TIME, hurry);
    const good =
      ending.kind === 'crash' ? await this.#abandon(ending.why) : await this.#finish(ending, deadline);
    const served = this.#parts.served();
    const failed = served.some(({ reconnector }) => reconnector.failed);
    for (const { reconnector } of served) await reconnector.stop();
    const failures = await cleanup.run();
    for (const error of failures) report.error(error);
    return good && !failed && failures.length === 0 ? 0 : 1;
  }

  /** Whether everything reached the server. */
  async #finish(ending: Ending, deadline: Deadline): Promise<boolean> {
    const { report, mountpoint, backend, served } = this.#parts;
    const { text } = mountpoint;
    let result: UnmountResult | 'failed' = 'unmounted';
    if (ending.kind === 'signal') {
      report.detail(`${ending.name}: unmounting ${text}`);
      const files = served().map(({ file }) => file);
      result = await unmountInOrder(backend, files, deadline).catch((error: unknown) => {
        report.error(error);
        return 'failed' as const;
      });
    }
    const { unwrittenBytes, ranges, reason } = await stopBackend(backend, deadline.remaining);
    if (result === 'busy')
      report.line(`${text} is in use: nbdfuse detached it after all writes had reached the server`);
    if (result === 'late')
      report.line(`${text}: nbdfuse detached it, but the server did not accept all writes in time`);
    if (result === 'unreachable')
      report.line(`${text}: nbdfuse detached it, but could not open its files to have all writes sent`);
    if (unwrittenBytes > 0) {
      const where = ranges.length === 0 ? '' : `: ${ranges.join('; ')}`;
      report.line(`${text}: ${unwrittenBytes} bytes are not on the server's disk (${reason})${where}`);
    } else if (reason === 'timeout') report.line(`${text}: the server did not answer in time`);
    else if (reason === 'loss') report.line(`${text}: some writes may be lost; see the messages above`);
    else if (reason !== '') report.line(`${text}: the last flush failed: ${reason}`);
    return (result === 'unmounted' || result === 'busy') && reason === '';
  }

  /** Detaches a mount that is no longer served. */
  async #abandon(why: string): Promise<boolean> {
    const { report, mountpoint, backend } = this.#parts;
    report.line(`${mountpoint.text}: detaching the mount: ${why}`);
    await giveUp(backend);
    return false;
  }
}

/** Stops a backend; the end of the process ends one that does not respond. */
async function stopBackend(backend: Backend, milliseconds: number): Promise<StopOutcome> {
  const outcome = await new Deadline(milliseconds + STOP_SLACK).outcomeOf(backend.stop(milliseconds));
  if (outcome.kind === 'done') return outcome.value;
  return { unwrittenBytes: 0, ranges: [], reason: 'the worker thread does not respond' };
}

/** Milliseconds to detach a mount. */
const GIVE_UP_TIME = 2000;
/** Of these, milliseconds for pending requests to finish, so that the server sees no request cut off. */
const LAST_REQUESTS = 500;

/** Detaches a mount whose backend is dead or was never used. Never rejects. */
export async function giveUp(backend: Backend): Promise<void> {
  const deadline = new Deadline(GIVE_UP_TIME);
  await deadline.outcomeOf(backend.unmount({ lazy: true }));
  await deadline.outcomeOf(backend.stop(LAST_REQUESTS));
}
