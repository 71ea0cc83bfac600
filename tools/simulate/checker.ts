// The contents that each unit of a file may have, given the replies to the kernel: the promise of the file
// system.
//
// A write takes effect at some moment between its beginning and its reply. An interrupted write may take
// effect later or never, but not after a write that began after its reply. So a write is *superseded* as soon
// as a newer one is known to have taken effect: by its acknowledgement, or because a read has returned it. A
// read that begins later must not return it. No loss may bring back content that an fsync has covered.
//
// Pure. Times are the numbers of events; none is used twice.

import { FIRST_CONTENT, UNIT } from './units.js';
import { Violation } from './violation.js';

/** The result of a write. `failed` includes writes whose effect is unknown. */
type Outcome = 'pending' | 'acknowledged' | 'interrupted' | 'failed';

/** A WRITE, or a FALLOCATE that makes zeros. */
export interface Change {
  /** The content of its units: its number, or 0 for zeros. */
  readonly content: number;
  readonly name: string;
  readonly first: number;
  readonly count: number;
  readonly begin: number;
  end: number;
  outcome: Outcome;
  /** Whether its effect will never be known. */
  isUnsure: boolean;
  /** Whether the server may have dropped it: older content may come back at any time, and no later fsync covers it. */
  mayBeLost: boolean;
}

interface Entry {
  readonly change: Change;
  /** The time from which on it has certainly taken effect. */
  effectiveAt: number;
  /** The time from which on no read may return it. */
  supersededAt: number;
  /** The change that has superseded it, and the reason why that is known. */
  by: Entry | undefined;
  why: string;
  /** Whether an fsync has covered the change that superseded it: then no loss brings it back. */
  isPast: boolean;
}

const NEVER = Number.POSITIVE_INFINITY;
/** The time of the end: before "never". */
const AT_THE_END = Number.MAX_VALUE;

function entryOf(change: Change): Entry {
  return { change, effectiveAt: NEVER, supersededAt: NEVER, by: undefined, why: '', isPast: false };
}

/** The units of one file. */
export class Checker {
  readonly #units: Entry[][];
  /** All changes of each unit, in the order of their beginnings. */
  readonly #changes: Change[][];
  /** Units that have several entries. */
  readonly #busy = new Set<number>();
  readonly #open = new Set<Change>();
  /** Changes that no fsync has covered. */
  readonly #uncovered = new Set<Change>();

  constructor(units: number) {
    this.#changes = Array.from({ length: units }, () => []);
    this.#units = Array.from({ length: units }, (_, i) => {
      const entry = entryOf({
        content: FIRST_CONTENT,
        name: 'the first content',
        first: i,
        count: 1,
        begin: -1,
        end: 0,
        outcome: 'acknowledged',
        isUnsure: false,
        mayBeLost: false,
      });
      entry.effectiveAt = 0;
      return [entry];
    });
  }

  /** A change begins. */
  begins(content: number, name: string, first: number, count: number, now: number): Change {
    const change: Change = {
      content,
      name,
      first,
      count,
      begin: now,
      end: NEVER,
      outcome: 'pending',
      isUnsure: false,
      mayBeLost: false,
    };
    this.#open.add(change);
    this.#uncovered.add(change);
    for (let unit = first; unit < first + count; unit++) {
      this.#units[unit].push(entryOf(change));
      this.#changes[unit].push(change);
      this.#busy.add(unit);
    }
    return change;
  }

  /**
   * A change of a unit that was acknowledged before event `at`, and that began after the last change with `content` had
   * ended; undefined without one. A loss of the server does not matter.
   */
  newerThan(unit: number, content: number, at: number): Change | undefined {
    const changes = this.#changes[unit];
    const last = changes.findLast((change) => change.content === content);
    if (last === undefined && content !== FIRST_CONTENT) return undefined;
    const end = last?.end ?? 0;
    if (last?.isUnsure === true) return undefined;
    return changes.find((one) => one.outcome === 'acknowledged' && one.end < at && one.begin > end);
  }

  /** A change has its reply. */
  ends(change: Change, outcome: Outcome, now: number): void {
    change.end = now;
    change.outcome = outcome;
    change.isUnsure = outcome === 'failed';
    if (outcome !== 'interrupted') this.#open.delete(change);
    if (outcome !== 'acknowledged') return;
    for (let unit = change.first; unit < change.first + change.count; unit++) {
      const entries = this.#units[unit];
      const own = entries.find((entry) => entry.change === change);
      if (own === undefined) continue;
      own.effectiveAt = Math.min(own.effectiveAt, now);
      for (const entry of entries)
        if (entry.change.end < change.begin) supersede(entry, own, now, 'was acknowledged');
    }
  }

  /** Changes under way and interrupted changes will not finish: their effect stays unknown. */
  givesUp(): void {
    for (const change of this.#open) {
      if (change.outcome !== 'interrupted') continue;
      change.isUnsure = true;
      this.#open.delete(change);
    }
  }

  /** Checks one unit of a read that began at `begin` and ends now. @throws Violation */
  read(unit: number, content: number, begin: number, now: number): void {
    const allowed = this.#allowed(unit, content, begin);
    if (allowed.length === 0)
      throw new Violation(
        'stale read',
        `a read returns ${this.#complaint(unit, content, begin)}`,
        this.#kind(unit, content),
      );
    if (allowed.length > 1 || allowed[0].change.isUnsure || allowed[0].change.mayBeLost) return;
    const [seen] = allowed;
    seen.effectiveAt = Math.min(seen.effectiveAt, now);
    for (const entry of this.#units[unit]) {
      if (entry === seen) continue;
      if (entry.change.end < seen.change.begin || entry.effectiveAt <= begin)
        supersede(entry, seen, now, 'was read');
    }
  }

  /** An fsync that began at `begin` has succeeded; no read that is under way began before `oldest`. */
  synced(begin: number, oldest: number): void {
    for (const change of this.#uncovered)
      if (change.outcome === 'acknowledged' && change.end <= begin) this.#uncovered.delete(change);
    for (const unit of this.#busy) this.#settle(unit, oldest, (entry) => isLasting(entry, begin));
  }

  /** A change was stable when it was acknowledged (FUA). */
  lasting(change: Change, oldest: number): void {
    const { first, count, end } = change;
    this.#uncovered.delete(change);
    for (let unit = first; unit < first + count; unit++)
      this.#settle(unit, oldest, (entry) => isLasting(entry, end) && entry.by?.change.end === end);
  }

  /** The changes that a server may lose: no fsync has covered them. */
  get atRisk(): readonly Change[] {
    return [...this.#uncovered];
  }

  /** Changes may be lost: the content before them may come back. */
  loses(changes: readonly Change[]): void {
    for (const change of changes) {
      change.mayBeLost = true;
      for (let unit = change.first; unit < change.first + change.count; unit++) {
        for (const entry of this.#units[unit]) {
          if (entry.change === change) entry.effectiveAt = NEVER;
          if (entry.isPast || entry.by?.change !== change) continue;
          entry.supersededAt = NEVER;
          entry.by = undefined;
        }
      }
    }
  }

  /** Checks one unit of the disk at the end. @param mayLose writes that no fsync covers may be lost @throws Violation */
  isOnDisk(unit: number, content: number, mayLose: boolean): void {
    if (mayLose && this.#units[unit].some(({ change, isPast }) => change.content === content && !isPast))
      return;
    if (this.#allowed(unit, content, AT_THE_END).length > 0) return;
    const isGone = this.#units[unit].every(({ change, isPast }) => change.content !== content || isPast);
    throw new Violation(
      isGone ? 'lost after fsync' : 'stale disk',
      `the disk ends with ${this.#complaint(unit, content, AT_THE_END)}`,
      this.#kind(unit, content),
    );
  }

  /** Whether the disk lacks something acknowledged in a unit at the end. */
  isMissing(unit: number, content: number): boolean {
    return this.#allowed(unit, content, AT_THE_END).length === 0;
  }

  /** Whether a unit is not zeros for certain, for a read that begins at `begin`. */
  isData(unit: number, begin: number): boolean {
    return this.#units[unit].every(
      (entry) => entry.change.content !== 0 || (entry.supersededAt <= begin && isSettled(entry)),
    );
  }

  #allowed(unit: number, content: number, begin: number): Entry[] {
    return this.#units[unit].filter(
      (entry) => entry.change.content === content && !(entry.supersededAt <= begin && isSettled(entry)),
    );
  }

  #settle(unit: number, oldest: number, isOver: (entry: Entry) => boolean): void {
    for (const entry of this.#units[unit]) entry.isPast ||= isOver(entry);
    const left = this.#units[unit].filter((entry) => !entry.isPast || entry.supersededAt > oldest);
    this.#units[unit] = left;
    if (left.length === 1) this.#busy.delete(unit);
  }

  /** The kind of error: the kinds of the visible change and of the change that should have hidden it. */
  #kind(unit: number, content: number): string {
    const stale = this.#units[unit].findLast(({ change }) => change.content === content);
    const whose = content === FIRST_CONTENT ? 'first' : content === 0 ? 'zeros' : 'write';
    return `${whose} ${stale?.change.outcome} ${stale?.why}`;
  }

  #complaint(unit: number, content: number, begin: number): string {
    const place = `at offset ${unit * UNIT}`;
    const stale = this.#units[unit].findLast(({ change }) => change.content === content);
    const newest = this.#units[unit].filter((entry) => entry.supersededAt > begin || !isSettled(entry));
    const names = newest.map(({ change }) => `${change.name} (${change.outcome})`).join(' or ');
    if (stale?.by === undefined)
      return `${describe(content)}, which an fsync had made a thing of the past, ${place}; right is ${names}`;
    return `${stale.change.name} (${stale.change.outcome}) ${place}, although ${stale.by.change.name} ${stale.why}; right is ${names}`;
  }
}

function describe(content: number): string {
  return content === 0
    ? 'zeros'
    : content >= FIRST_CONTENT
      ? `content 0x${content.toString(16)}`
      : `#${content}`;
}

function supersede(entry: Entry, by: Entry, now: number, why: string): void {
  if (entry === by || (entry.supersededAt <= now && entry.by?.change.mayBeLost !== true)) return;
  entry.supersededAt = now;
  entry.by = by;
  entry.why = why;
}

/** Whether the change that superseded an entry counts: a failed or lost write may take effect or not, now or later. */
function isSettled({ by }: Entry): boolean {
  return by === undefined || !(by.change.isUnsure || by.change.mayBeLost);
}

/** Whether a write that an fsync from `begin` covers has superseded an entry. */
function isLasting({ supersededAt, by }: Entry, begin: number): boolean {
  if (by === undefined || by.change.mayBeLost || by.change.outcome !== 'acknowledged') return false;
  return supersededAt <= begin && by.change.end <= begin;
}
