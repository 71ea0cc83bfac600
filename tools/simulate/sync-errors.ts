// The rule of fsync for the errors of one file: each open handle learns of each error once, at its next fsync.
//
// An error is a FLUSH whose failure the worker has read, or a loss that it reports. A handle opened later learns of the
// errors that no handle has learned of before. Pure. Times are the numbers of events; none is used twice.

import { Violation } from './violation.js';

const NEVER = Number.POSITIVE_INFINITY;

export interface SyncError {
  readonly at: number;
  readonly why: string;
  /** Whether the worker has understood it. If not, an fsync may report it or not. */
  isKnown: boolean;
  /** When the first fsync may have reported it. */
  seenAt: number;
}

interface OpenHandle {
  /** When OPEN began, and when it was answered. */
  readonly begin: number;
  readonly end: number;
  /** The errors up to here were reported, for certain and perhaps. */
  toldUpTo: number;
  perhapsToldUpTo: number;
  /** Number of fsyncs that have reported an error. */
  reports: number;
}

/** An fsync through a handle. */
export interface Sync {
  readonly handle: number;
  /** How the history names it. */
  readonly name: string;
  readonly begin: number;
  readonly now: number;
}

/** See the file's head. */
export class SyncErrors {
  readonly #errors: SyncError[] = [];
  readonly #handles = new Map<number, OpenHandle>();
  /** When requests have last failed for lack of a server; `#isAway`: they still do. */
  #wasAwayUntil = -1;
  #isAway = false;

  /** The open handles. */
  get handles(): number[] {
    return [...this.#handles.keys()];
  }

  opened(handle: number, begin: number, end: number): void {
    this.#handles.set(handle, { begin, end, toldUpTo: -1, perhapsToldUpTo: -1, reports: 0 });
  }

  closed(handle: number): void {
    this.#handles.delete(handle);
  }

  /** The worker has read of a failed FLUSH, or reports a loss. */
  raised(why: string, at: number): SyncError {
    const error = { at, why, isKnown: true, seenAt: NEVER };
    this.#errors.push(error);
    return error;
  }

  /** From now on requests may fail for lack of a server, or no longer. */
  isAway(away: boolean, now: number): void {
    this.#isAway = away;
    if (!away) this.#wasAwayUntil = now;
  }

  /** The handles to which an fsync that begins now must report an error. */
  get due(): number[] {
    return this.handles.filter((handle) => this.#due(handle, NEVER) !== undefined);
  }

  /** An fsync has succeeded. @throws Violation */
  succeeded({ handle, name, begin }: Sync): void {
    const error = this.#due(handle, begin);
    if (error === undefined) return;
    throw new Violation('silent loss', `${name} succeeds, and its handle does not know: ${error.why}`);
  }

  /** An fsync has failed, but not with EINTR. @throws Violation */
  failed({ handle, name, begin, now }: Sync): void {
    const open = this.#handles.get(handle);
    if (open === undefined) {
      this.mayBeTold(handle, now);
      return;
    }
    // The worker may read of several failed FLUSHes at once. Each of them fails its own fsync, and is one more error for
    // the handles of the others.
    const concerned = this.#errors.filter(({ at, seenAt }) => at > open.begin || seenAt > open.begin).length;
    const isNew = open.reports < concerned || this.#errors.some(({ at }) => at > open.toldUpTo || at > begin);
    const mayBeAway = this.#isAway || this.#wasAwayUntil >= begin;
    if (!isNew && !mayBeAway)
      throw new Violation('false alarm', `${name} fails, and its handle knows of every error`);
    if (!mayBeAway) {
      open.toldUpTo = now;
      open.reports++;
    }
    this.mayBeTold(handle, now);
  }

  /** Something has failed that may have reported the errors. */
  mayBeTold(handle: number, now: number): void {
    const open = this.#handles.get(handle);
    if (open !== undefined) open.perhapsToldUpTo = now;
    for (const error of this.#errors) error.seenAt = Math.min(error.seenAt, now);
  }

  /** An error before event `begin` that a handle must learn of. */
  #due(handle: number, begin: number): SyncError | undefined {
    const open = this.#handles.get(handle);
    if (open === undefined) return undefined;
    return this.#errors.find(
      ({ at, seenAt, isKnown }) =>
        isKnown && at < begin && at > open.perhapsToldUpTo && (at > open.end || seenAt > open.end),
    );
  }
}
