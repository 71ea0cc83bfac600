// Looks after what waits for a server that does not answer, the connections and who asked; and after memory
// that nobody has needed for a while.
//
// Called by the worker once a turn; it looks at its own pace. Never blocks.

import type { Connection } from '../connection/connection.js';
import { abandoned } from '../device/signals.js';
import type { Disk } from '../disk/disk.js';
import type { FuseRequest } from '../flight/fuse-request.js';
import type { Engine } from '../request/engine.js';

/** Milliseconds between two looks at whether those who wait still want what they have asked for. */
const REQUESTERS_PERIOD = 500;

/** Milliseconds between two looks at whether connections still reach anybody. */
const NETWORK_PERIOD = 5000;

/**
 * Times that the kernel has sent a segment again in vain, waiting twice as long each time, after which its
 * receiver is gone: 25 seconds at least. By itself the kernel would try for a quarter of an hour.
 */
const MOST_RETRANSMISSIONS = 7;

/** Milliseconds between two looks for proof of what became of lost changes, while somebody waits for it. */
const PROOF_PERIOD = 20;

/** Connections of one disk that are given up and still read; further ones are closed. */
const MOST_CLOSING = 16;

/**
 * Milliseconds without a byte from the server after which who has had a signal that cannot be told is freed: it may
 * have been meant to end him.
 */
const UNKNOWN_PATIENCE = 30_000;

/** Milliseconds for which memory must not have been needed to be given back to the system. */
const SPARE_PERIOD = 10_000;

/** What a watchdog looks after. */
export interface Watched {
  readonly engine: Engine;
  readonly disks: readonly Disk[];
  /** Milliseconds without a sign of life after which a connection with commands in flight is lost; 0: never. */
  readonly timeout: number;
  /** Requests that wait for the main thread, with --all. */
  readonly parked: { readonly holds: boolean; freeRequesters(): void } | undefined;
  /** Bytes that were read ahead. */
  readonly prefetched: { readonly any: boolean; expire(now: number): void } | undefined;
}

/** See the file's head. */
export class Watchdog {
  readonly #watched: Watched;
  readonly #engine: Engine;
  readonly #disks: readonly Disk[];
  readonly #timeout: number;
  /** Milliseconds between two looks while requests wait. */
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

  /** Milliseconds until `look` wants to be called at the latest, or -1 while nothing is waited for. */
  get patience(): number {
    if (this.#disks.some(({ awaitsProof }) => awaitsProof)) return PROOF_PERIOD;
    if (this.#disks.some(({ lost, closing }) => lost.any || closing.length > 0)) return this.#pace;
    if (this.#engine.requests.count > 0 || this.#isSendingAgain()) return this.#pace;
    if (this.#watched.parked?.holds) return REQUESTERS_PERIOD;
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

  /** What is sent again after a loss belongs to no request. */
  #isSendingAgain(): boolean {
    return this.#disks.some((disk) => disk.connections.some((one) => one.inFlight > 0));
  }

  /** Frees who was ended while waiting for what the server does not answer, or for the main thread. */
  #freeRequesters(now: number): void {
    this.#watched.parked?.freeRequesters();
    const waiting = this.#engine.requests.unansweredSince(now - REQUESTERS_PERIOD);
    for (const request of abandoned(waiting, this.#engine.system.isBeingEnded))
      this.#engine.interrupt(request);
    for (const request of waiting)
      if (request.interrupted && this.#isSilent(request, now)) this.#engine.interrupt(request);
  }

  #giveUpSilent(now: number): void {
    const why = `the server has not answered for ${this.#timeout / 1000} s`;
    for (const disk of this.#disks) {
      const silent = this.#silent(disk.connections, now, this.#timeout);
      if (silent.length === 0) continue;
      for (const connection of silent) {
        // One that is closed leaves its changes without hope of an answer, but the others in peace.
        if (disk.closing.length < MOST_CLOSING) connection.giveUp(why);
        else connection.lose(why, false);
      }
      // What has not been asked for as long would not be answered either.
      for (const connection of disk.connections)
        if (now - connection.lastProgress > this.#timeout) connection.lose(why, false);
    }
  }

  #giveUpUnreachable(now: number): void {
    for (const { connections } of this.#disks)
      for (const connection of this.#silent(connections, now, NETWORK_PERIOD))
        if (connection.retransmissions >= MOST_RETRANSMISSIONS)
          connection.giveUp('the server is unreachable');
  }

  /** The connections that wait for an answer, and have not had a byte for so many milliseconds. */
  #silent(connections: readonly Connection[], now: number, milliseconds: number): Connection[] {
    return connections.filter((one) => one.inFlight > 0 && now - one.lastProgress > milliseconds);
  }

  /** Whether nothing has come for long from where a request's answer must come. */
  #isSilent({ disk, startedAt }: FuseRequest, now: number): boolean {
    const lastProgress = disk?.lastProgress ?? Number.NEGATIVE_INFINITY;
    return now - Math.max(startedAt, lastProgress) > UNKNOWN_PATIENCE;
  }
}
