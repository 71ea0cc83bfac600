// Looks after what waits for a server that does not answer, the connections and who asked; and after memory
// that nobody has needed for a while.
//
// Called by the worker once a turn; it looks at its own pace. Never blocks.

import { retransmissions } from '../os/socket.js';
import type { Connection } from './connection.js';
import type { Disk } from './disk.js';
import type { Engine } from './engine.js';
import type { Folder } from './folder.js';
import { abandoned } from './interrupt.js';

/** Milliseconds between two looks at whether those who wait still want what they have asked for. */
const ASKERS_PERIOD = 500;

/** Milliseconds between two looks at whether connections still reach anybody. */
const NETWORK_PERIOD = 5000;

/**
 * Times that the kernel has sent a segment again in vain, waiting twice as long each time, after which its
 * receiver is gone: 25 seconds at least. By itself the kernel would try for a quarter of an hour.
 */
const MOST_RETRANSMISSIONS = 7;

/** Milliseconds between two looks at connections that have been given up. */
const FAREWELL_PERIOD = 20;

/** Milliseconds for which memory must not have been needed to be given back to the system. */
const SPARE_PERIOD = 10_000;

/** See the file's head. */
export class Watchdog {
  readonly #engine: Engine;
  readonly #disks: readonly Disk[];
  readonly #folder: Folder | undefined;
  readonly #timeout: number;
  /** Milliseconds between two looks while anything is waited for. */
  readonly #pace: number;
  #askersAt = 0;
  #networkAt = 0;
  #spareAt = 0;

  /**
   * @param folder holds requests where files come and go
   * @param timeout milliseconds without a sign of life after which a connection with requests is lost; 0: never
   */
  constructor(engine: Engine, disks: readonly Disk[], folder: Folder | undefined, timeout: number) {
    this.#engine = engine;
    this.#disks = disks;
    this.#folder = folder;
    this.#timeout = timeout;
    this.#pace = timeout === 0 ? ASKERS_PERIOD : Math.min(ASKERS_PERIOD, Math.max(1, Math.ceil(timeout / 4)));
  }

  /** Milliseconds until `look` wants to be called at the latest, or -1 while nothing is waited for. */
  get patience(): number {
    if (this.#disks.some(({ farewells }) => farewells.pending)) return FAREWELL_PERIOD;
    if (this.#engine.operations.count > 0 || this.#isSendingAgain()) return this.#pace;
    if (this.#folder?.holds) return ASKERS_PERIOD;
    return this.#engine.blocks.hasSpare ? SPARE_PERIOD : -1;
  }

  look(now: number): void {
    if (this.#timeout > 0) this.#giveUpSilent(now);
    for (const disk of this.#disks) if (disk.farewells.pending) disk.checkFarewells(now);
    if (now - this.#askersAt < ASKERS_PERIOD) return;
    this.#askersAt = now;
    this.#freeAskers(now);
    if (now - this.#spareAt >= SPARE_PERIOD) {
      this.#spareAt = now;
      this.#engine.blocks.discardSpare();
    }
    if (now - this.#networkAt < NETWORK_PERIOD) return;
    this.#networkAt = now;
    this.#giveUpUnreachable(now);
  }

  /** What is sent again after a loss belongs to no operation. */
  #isSendingAgain(): boolean {
    return this.#disks.some((disk) => disk.connections.some((one) => one.inFlight > 0));
  }

  /** Frees who was ended while waiting for what the server does not answer, or for the main thread. */
  #freeAskers(now: number): void {
    this.#folder?.freeAskers();
    const waiting = this.#engine.operations.unansweredSince(now - ASKERS_PERIOD);
    for (const operation of abandoned(waiting, this.#engine.system.isBeingEnded))
      this.#engine.interrupt(operation);
  }

  #giveUpSilent(now: number): void {
    const why = `the server has not answered for ${this.#timeout / 1000} s`;
    for (const disk of this.#disks) {
      const silent = this.#silent(disk, now, this.#timeout);
      if (silent.length === 0) continue;
      for (const connection of silent) connection.part(why);
      // What has not been asked for as long would not be answered either.
      for (const connection of disk.connections)
        if (now - connection.lastProgress > this.#timeout) connection.lose(why, false);
      if (disk.connections.length > 0) disk.farewells.bound(now);
    }
  }

  #giveUpUnreachable(now: number): void {
    for (const connection of this.#disks.flatMap((disk) => this.#silent(disk, now, NETWORK_PERIOD))) {
      if (retransmissions(connection.descriptor) >= MOST_RETRANSMISSIONS)
        connection.lose('the server cannot be reached any more', false);
    }
  }

  /** The connections that wait for an answer, and have not had a byte for so many milliseconds. */
  #silent(disk: Disk, now: number, milliseconds: number): Connection[] {
    return disk.connections.filter((one) => one.inFlight > 0 && now - one.lastProgress > milliseconds);
  }
}
