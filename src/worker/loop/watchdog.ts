// Watches over silent servers, requests whose task has a signal, and unused memory.
//
// Called by the worker once a turn; it has its own periods. Never blocks.

import type { Connection } from '../connection/connection.js';
import { PATIENCE, signalled } from '../device/signals.js';
import type { Disk } from '../disk/disk.js';
import type { FuseRequest } from '../flight/fuse-request.js';
import type { Engine } from '../request/engine.js';

/** Milliseconds between two looks at the signals of the tasks of waiting requests. */
const REQUESTERS_PERIOD = 500;

/** Milliseconds between two checks whether connections still reach their server. */
const NETWORK_PERIOD = 5000;

/**
 * Retransmissions of a TCP segment, at doubling intervals, after which the server is unreachable: at least 25
 * seconds. The kernel itself would go on for a quarter of an hour.
 */
const MOST_RETRANSMISSIONS = 7;

/** Milliseconds between two searches for proof about lost changes, while a request waits for it. */
const PROOF_PERIOD = 20;

/** Most connections of one disk that were given up and stay open for replies; further ones are closed. */
const MOST_CLOSING = 16;

/** Milliseconds between two discards of unused memory. */
const SPARE_PERIOD = 10_000;

/** The objects of a watchdog. */
export interface Watched {
  readonly engine: Engine;
  readonly disks: readonly Disk[];
  /** Milliseconds without progress after which a connection with commands in flight is lost; 0: never. */
  readonly timeout: number;
  /** Requests that wait for the main thread, with --all. */
  readonly parked: { readonly hasParked: boolean; freeRequesters(): void } | undefined;
  /** Data that were read ahead. */
  readonly prefetched: { readonly any: boolean; expire(now: number): void } | undefined;
}

/** See the file's head. */
export class Watchdog {
  readonly #watched: Watched;
  readonly #engine: Engine;
  readonly #disks: readonly Disk[];
  readonly #timeout: number;
  /** Milliseconds between two checks while requests wait. */
  readonly #pace: number;
  #requestersAt = 0;
  #proofAt = 0;
  #networkAt = 0;
  #spareAt = 0;

  constructor(watched: Watched) {
    const { timeout } = watched;
    this.#watched = watched;
    this.#engine = watched.engine;
    this.#disks = watched.disks;
    this.#timeout = timeout;
    this.#pace =
      timeout === 0 ? REQUESTERS_PERIOD : Math.min(REQUESTERS_PERIOD, Math.max(1, Math.ceil(timeout / 4)));
  }

  /** Milliseconds until the next due call of `look`; -1: none. */
  get patience(): number {
    if (this.#disks.some(({ awaitsProof }) => awaitsProof)) return PROOF_PERIOD;
    if (this.#disks.some(({ lost, closing }) => lost.any || closing.length > 0)) return this.#pace;
    if (this.#engine.requests.count > 0 || this.#isSendingAgain()) return this.#pace;
    if (this.#watched.parked?.hasParked) return REQUESTERS_PERIOD;
    const keeps = this.#engine.buffers.hasSpare || this.#watched.prefetched?.any === true;
    return keeps ? SPARE_PERIOD : -1;
  }

  look(now: number): void {
    if (this.#timeout > 0) this.#giveUpSilent(now);
    if (now - this.#proofAt >= PROOF_PERIOD) {
      this.#proofAt = now;
      for (const disk of this.#disks) if (disk.lost.any || disk.closing.length > 0) disk.lookAtLost(now);
    }
    if (now - this.#requestersAt < REQUESTERS_PERIOD) return;
    this.#requestersAt = now;
    for (const { identity } of this.#disks) identity.look(now);
    this.#freeRequesters(now);
    if (now - this.#spareAt >= SPARE_PERIOD) {
      this.#spareAt = now;
      this.#watched.prefetched?.expire(now);
      this.#engine.buffers.discardSpare();
    }
    if (now - this.#networkAt < NETWORK_PERIOD) return;
    this.#networkAt = now;
    this.#giveUpUnreachable(now);
  }

  /** Whether commands are in flight, as those of a replay, which belong to no request. */
  #isSendingAgain(): boolean {
    return this.#disks.some((disk) => disk.connections.some((one) => one.inFlight > 0));
  }

  /** Ends requests, in progress or parked, because of the signals of their tasks. */
  #freeRequesters(now: number): void {
    this.#watched.parked?.freeRequesters();
    const waiting = this.#engine.requests.unansweredSince(now - REQUESTERS_PERIOD);
    for (const [request, patience] of signalled(waiting, this.#engine.system.patienceOf)) {
      const isEnding = patience === PATIENCE.ending;
      if (isEnding || this.#silenceOf(request, now) > patience) this.#engine.interrupt(request);
    }
  }

  #giveUpSilent(now: number): void {
    const why = `the server has not answered for ${this.#timeout / 1000} s`;
    for (const disk of this.#disks) {
      const silent = this.#silent(disk.connections, now, this.#timeout);
      if (silent.length === 0) continue;
      for (const connection of silent) {
        // A connection that was given up may still receive replies to its changes. Beyond the limit it is closed.
        const manner = disk.closing.length < MOST_CLOSING ? 'given up' : 'aborted';
        connection.end({ manner, why });
      }
      // Commands sent later to the same silent server would get no reply either.
      for (const connection of disk.connections)
        if (now - connection.lastProgress > this.#timeout) connection.end({ manner: 'aborted', why });
    }
  }

  #giveUpUnreachable(now: number): void {
    for (const { connections } of this.#disks)
      for (const connection of this.#silent(connections, now, NETWORK_PERIOD))
        if (connection.retransmissions >= MOST_RETRANSMISSIONS)
          connection.end({ manner: 'given up', why: 'the server is unreachable' });
  }

  /** The connections with commands in flight that had no byte for so many milliseconds. */
  #silent(connections: readonly Connection[], now: number, milliseconds: number): Connection[] {
    return connections.filter((one) => one.inFlight > 0 && now - one.lastProgress > milliseconds);
  }

  /** Milliseconds for which a request has waited without a byte from the server. */
  #silenceOf({ disk, startedAt }: FuseRequest, now: number): number {
    return now - Math.max(startedAt, disk?.lastProgress ?? Number.NEGATIVE_INFINITY);
  }
}
