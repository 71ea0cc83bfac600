// Changes that were sent on a connection which is lost, and which the server may still make.
//
// Owned by a Disk. The invariant that this file keeps: while a copy of a change is unresolved, no newer change that
// overlaps it is sent. A copy is resolved by its own reply, where its connection can still be read; by the end of the
// server's process; or, where the user has said so, by time. That the server closes proves nothing: it may have the
// request in its hands. The change itself may be sent again: the same bytes to the same place do no harm.
// See docs/internals/invariants.md.

import type { Peer } from '../connection/channel.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { distance, toBigInt } from '../memory/u64.js';

/** Milliseconds for which a newer change waits for proof; then it fails. */
export const PROOF_PATIENCE = 30_000;

/** Which bytes a change is about, as a WRITE or WRITE_ZEROES tells it. */
export interface ChangedBytes {
  readonly type: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  readonly length: number;
}

/** What counts of the connection that a change was sent on. */
export interface SentOn {
  readonly peer: Peer | undefined;
  /** Whether it may still be answered. */
  readonly closing: boolean;
  /** Its number among those of the disk. */
  readonly arrival: number;
}

/** Where bytes of a disk lie. */
type Place = Pick<ChangedBytes, 'offsetHi' | 'offsetLo' | 'length'>;

/** Whether two runs of bytes have some in common. */
export function overlaps(a: Place, b: Place): boolean {
  const apart = distance(a.offsetHi, a.offsetLo, b.offsetHi, b.offsetLo);
  return apart < b.length && -apart < a.length;
}

interface LostCopy extends ChangedBytes {
  readonly change: number;
  /** Bytes [start, end) of the disk. */
  readonly start: bigint;
  readonly end: bigint;
  readonly peer: Peer | undefined;
  readonly arrival: number;
  /** When it was lost, milliseconds; of several, the first. */
  lostAt: number;
  /** While its connection is read: what its reply will answer. */
  command: NbdCommand | undefined;
  /** When its connection had ended. */
  closedAt: number;
}

/** See the file's head. */
export class LostCopies {
  readonly #settleTime: number;
  #copies: LostCopy[] = [];
  /** Connections up to this number led to a server that has ended. */
  #endedUpTo = 0;

  /** @param settleTime milliseconds after the end of a connection when the server has certainly made or dropped what it was sent */
  constructor(settleTime: number) {
    this.#settleTime = settleTime;
  }

  get any(): boolean {
    return this.#copies.length > 0;
  }

  get count(): number {
    return this.#copies.length;
  }

  /** What may still be made. */
  get changes(): readonly ChangedBytes[] {
    return this.#copies;
  }

  /** Takes a change that was sent on a connection that is lost. */
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

  /** Whether the reply to a command decides something. */
  awaits(command: NbdCommand): boolean {
    return this.#copies.some((copy) => copy.command === command);
  }

  /** A copy's reply has come. */
  answered(command: NbdCommand): void {
    this.#drop((copy) => copy.command === command);
  }

  /** A copy's connection has ended: its reply will not come. */
  closed(command: NbdCommand, now: number): void {
    for (const copy of this.#copies) {
      if (copy.command !== command) continue;
      copy.command = undefined;
      copy.closedAt = now;
      this.#merge(copy);
      return;
    }
  }

  /** The server that the first `attached` connections led to has ended for certain. */
  serverEnded(attached: number): void {
    this.#endedUpTo = Math.max(this.#endedUpTo, attached);
    this.#drop(({ arrival }) => arrival <= attached);
  }

  /** Drops what is proven harmless by now. True: there was something. */
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
   * Since when an older change than number `change` has been lost that overlaps bytes [start, end); undefined where
   * there is none.
   */
  overlapping(start: bigint, end: bigint, change: number): number | undefined {
    let since: number | undefined;
    for (const copy of this.#copies) {
      if (copy.change >= change || copy.start >= end || start >= copy.end) continue;
      if (since === undefined || copy.lostAt < since) since = copy.lostAt;
    }
    return since;
  }

  /** Forgets everything, at the end. */
  clear(): void {
    this.#drop(() => true);
  }

  /** Of copies of one change that were sent to one process and will not be answered, one stands for all. */
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
