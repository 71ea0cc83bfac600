// Changes sent on a lost connection, which the server may still carry out. See docs/internals/invariants.md.
//
// Owned by a Disk. The invariant: while a copy of a change is unresolved, no newer overlapping change is sent. Its
// reply resolves a copy, or the end of the server's process, or time if the user has set --settle-time. A closed
// connection proves nothing. The same change may be sent again: the same bytes in the same place do no harm.

import type { Peer } from '../connection/channel.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { distance, toBigInt } from '../memory/u64.js';

/** Milliseconds for which a newer change waits for proof before it fails. */
export const PROOF_PATIENCE = 30_000;

/** The byte range of a WRITE or WRITE_ZEROES. */
export interface ChangedBytes {
  readonly type: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
}

/** The connection of a lost change. */
export interface SentOn {
  readonly peer: Peer | undefined;
  /** Whether replies may still come on it. */
  readonly closing: boolean;
  /** Its number among the connections of the disk. */
  readonly arrival: number;
}

/** A byte range of a disk. */
type Place = Pick<ChangedBytes, 'offsetHi' | 'offsetLo' | 'length'>;

/** Whether two byte ranges overlap. */
export function overlaps(a: Place, b: Place): boolean {
  const apart = distance(a.offsetHi, a.offsetLo, b.offsetHi, b.offsetLo);
  return apart < b.length && -apart < a.length;
}

interface LostCopy extends ChangedBytes {
  readonly change: number;
  /** Byte range [start, end) on the disk. */
  readonly start: bigint;
  readonly end: bigint;
  readonly peer: Peer | undefined;
  readonly arrival: number;
  /** Time of the loss in milliseconds; of merged copies, the first. */
  lostAt: number;
  /** The command whose reply resolves it; undefined when the connection is closed. */
  command: NbdCommand | undefined;
  /** Time at which its connection closed. */
  closedAt: number;
}

/** See the file's head. */
export class LostCopies {
  readonly #settleTime: number;
  #copies: LostCopy[] = [];
  /** The server of the connections up to this number has ended. */
  #endedUpTo = 0;

  /** @param settleTime milliseconds after a connection closes until its requests are certainly done or dropped */
  constructor(settleTime: number) {
    this.#settleTime = settleTime;
  }

  get any(): boolean {
    return this.#copies.length > 0;
  }

  get count(): number {
    return this.#copies.length;
  }

  /** The unresolved changes. */
  get changes(): readonly ChangedBytes[] {
    return this.#copies;
  }

  /** Adds a change sent on a lost connection. */
  add(command: NbdCommand, { peer, closing, arrival }: SentOn, now: number): void {
    if (arrival <= this.#endedUpTo) return;
    const { type, offsetHi, offsetLo, length, change } = command;
    const isClosed = !closing;
    const start = toBigInt(offsetHi, offsetLo);
    const copy: LostCopy = {
      type,
      offsetHi,
      offsetLo,
      length,
      change,
      start,
      end: start + BigInt(length),
      peer: peer?.share(),
      arrival,
      lostAt: now,
      command: isClosed ? undefined : command,
      closedAt: isClosed ? now : Number.POSITIVE_INFINITY,
    };
    this.#copies.push(copy);
    if (isClosed) this.#merge(copy);
  }

  /** Whether a reply to the command resolves a copy. */
  awaits(command: NbdCommand): boolean {
    return this.#copies.some((copy) => copy.command === command);
  }

  /** Resolves the copy that a reply belongs to. */
  answered(command: NbdCommand): void {
    this.#drop((copy) => copy.command === command);
  }

  /** Records that the connection of a copy is closed: no reply can come. */
  closed(command: NbdCommand, now: number): void {
    for (const copy of this.#copies) {
      if (copy.command !== command) continue;
      copy.command = undefined;
      copy.closedAt = now;
      this.#merge(copy);
      return;
    }
  }

  /** Resolves all copies on the first `attached` connections, as their server has ended. */
  serverEnded(attached: number): void {
    this.#endedUpTo = Math.max(this.#endedUpTo, attached);
    this.#drop(({ arrival }) => arrival <= attached);
  }

  /** Resolves the copies of ended processes and those whose time is over. Returns whether there were any. */
  look(now: number): boolean {
    const ended = new Map<Peer, boolean>();
    const hasEnded = (peer: Peer): boolean => {
      const known = ended.get(peer) ?? peer.ended;
      ended.set(peer, known);
      return known;
    };
    return this.#drop(
      ({ command, peer, closedAt }) =>
        (peer !== undefined && hasEnded(peer)) ||
        (command === undefined && now - closedAt >= this.#settleTime),
    );
  }

  /**
   * The time at which a change older than number `change` that overlaps the bytes [start, end) was lost; undefined
   * without one.
   */
  overlapping(start: bigint, end: bigint, change: number): number | undefined {
    let since: number | undefined;
    for (const copy of this.#copies) {
      if (copy.change >= change || copy.start >= end || start >= copy.end) continue;
      if (since === undefined || copy.lostAt < since) since = copy.lostAt;
    }
    return since;
  }

  /** Drops all copies, at the end. */
  clear(): void {
    this.#drop(() => true);
  }

  /** Merges the copies of one change that one process has and that get no reply. */
  #merge(one: LostCopy): void {
    this.#drop((copy) => {
      const isSame =
        copy.change === one.change &&
        copy.start === one.start &&
        copy.end === one.end &&
        copy.peer === one.peer;
      if (copy === one || copy.command !== undefined || !isSame) return false;
      one.lostAt = Math.min(one.lostAt, copy.lostAt);
      return true;
    });
  }

  #drop(isOver: (copy: LostCopy) => boolean): boolean {
    const before = this.#copies.length;
    if (before === 0) return false;
    this.#copies = this.#copies.filter((copy) => {
      const over = isOver(copy);
      if (over) copy.peer?.release();
      return !over;
    });
    return this.#copies.length < before;
  }
}
