// Which connections of a disk lead to a server that has everything acknowledged, and making others so.
//
// Owned by a Disk. A connection that comes is first asked for the blocks by which the disk is known. A server that was
// started anew has forgotten what it did not flush, and one can be connected to it before the older connections are
// seen to be lost. So it gets no commands until one of two things is known. Either no older connection is left: then
// the unflushed writes is sent again on it first. Or a FLUSH that was sent on an older one after it came has been answered: the
// server that has everything was alive then, and two of them do not live at once, so it leads there too.

import type { Connection } from '../connection/connection.js';
import { type CheckedDisk, IdentityCheck } from './identity-check.js';
import { Replay, type ReplayDisk } from './replay.js';

/** What a recovery needs of its disk. */
export interface RecoveredDisk extends ReplayDisk, CheckedDisk {
  readonly context: ReplayDisk['context'] & CheckedDisk['context'];
  /** A new connection leads to the same disk as before, as far as the disk's samples tell. */
  accepted(connection: Connection): void;
  flushInTheBackground(): void;
  /** Sends the commands that waited for a connection. */
  continueWaiting(): void;
}

interface Arrival {
  readonly connection: Connection;
  readonly number: number;
  /** Whether it leads to the same disk. */
  verified: boolean;
}

/** See the file's head. */
export class Recovery {
  /** The connections that commands may be given to. */
  ready: Connection[] = [];
  /** How many connections have come so far. */
  arrivals = 0;
  readonly #disk: RecoveredDisk;
  #fresh: Arrival[] = [];
  #replay: Replay | undefined;
  #refused = false;

  constructor(disk: RecoveredDisk) {
    this.#disk = disk;
  }

  /** Takes in a connection that has come. */
  arrived(connection: Connection): void {
    const arrival = { connection, number: ++this.arrivals, verified: false };
    this.#fresh.push(arrival);
    new IdentityCheck(this.#disk, connection, () => this.#verified(arrival)).begin();
  }

  /** Lets go of a connection that is lost; `advance` is to be called when its commands are sorted out. */
  lost(connection: Connection): void {
    this.ready = this.ready.filter((one) => one !== connection);
    this.#fresh = this.#fresh.filter((one) => one.connection !== connection);
    if (this.#replay?.connection === connection) this.#replay = undefined;
  }

  /** A FLUSH was answered that was sent when `arrivals` connections had come: they may be used. */
  proven(arrivals: number): void {
    if (this.#fresh.length === 0) return;
    const isProven = ({ number, verified }: Arrival): boolean => verified && number <= arrivals;
    this.ready = [...this.ready, ...this.#fresh.filter(isProven).map(({ connection }) => connection)];
    this.#fresh = this.#fresh.filter((one) => !isProven(one));
  }

  /** A command of the unflushed writes that was sent again has been answered; `error` is the server's or 0. */
  answered(error: number): void {
    if (error !== 0 && !this.#refused) {
      this.#refused = true;
      this.#disk.lose('the server refused a write that was sent again after reconnecting');
    }
    this.advance();
  }

  /** With no connection to be used, sends the unflushed writes again on the first that has come. */
  advance(): void {
    const disk = this.#disk;
    const next = this.#fresh.find(({ verified }) => verified);
    if (this.ready.length > 0 || next === undefined) return;
    if (this.#replay === undefined) {
      this.#refused = false;
      if (disk.unflushed.incomplete) {
        disk.unflushed.admitLoss();
        disk.lose('the server was lost with more unflushed writes than nbdfuse keeps');
      }
      this.#replay = new Replay(disk, next.connection, () => this.advance());
    }
    this.#replay.advance();
    if (!this.#replay.finished) return;
    this.#replay = undefined;
    this.#fresh = this.#fresh.filter((one) => one !== next);
    this.ready = [next.connection];
    // It makes lasting what was sent again, and lets the other connections that have come be used.
    if (!disk.unflushed.empty) disk.flushInTheBackground();
    else this.proven(this.arrivals);
    disk.continueWaiting();
  }

  #verified(arrival: Arrival): void {
    const disk = this.#disk;
    arrival.verified = true;
    disk.accepted(arrival.connection);
    if (this.ready.length === 0) this.advance();
    else if (disk.mayLose) disk.flushInTheBackground();
    else this.proven(this.arrivals);
  }
}
