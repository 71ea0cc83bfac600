// Decides which connections of a disk may be used, and prepares the others.
//
// Owned by a Disk. A new connection is checked for the disk's identity first. Its server may be a restarted one, which
// has forgotten unflushed writes, while older connections still look alive. So it gets commands only when no older
// connection is left and a replay has run, or when a FLUSH sent on an older connection after its arrival is answered.
// That server was alive then, and two servers never run at once, so both connections lead to it.

import type { Connection } from '../connection/connection.js';
import { type CheckedDisk, IdentityCheck } from './identity-check.js';
import { Replay, type ReplayDisk } from './replay.js';

/** The part of a disk that a recovery uses. */
export interface RecoveredDisk extends ReplayDisk, CheckedDisk {
  /** Whether a restarted server might lack acknowledged writes. */
  readonly mayLose: boolean;
  readonly context: ReplayDisk['context'] & CheckedDisk['context'];
  /** A new connection leads to the same disk as before, according to the disk's samples. */
  accepted(connection: Connection): void;
  flushInTheBackground(): void;
  /** Sends the commands that waited for a connection. */
  continueWaiting(): void;
}

interface Arrival {
  readonly connection: Connection;
  readonly number: number;
  /** Whether no sample of the disk differs. */
  verified: boolean;
  /** Whether there was a sample to compare. */
  isConfirmed: boolean;
}

/** See the file's head. */
export class Recovery {
  /** The connections that take commands. */
  ready: Connection[] = [];
  /** Number of connections so far. */
  arrivals = 0;
  readonly #disk: RecoveredDisk;
  #fresh: Arrival[] = [];
  #replay: Replay | undefined;
  #refused = false;

  constructor(disk: RecoveredDisk) {
    this.#disk = disk;
  }

  /** The replay in progress. */
  get replay(): Pick<Replay, 'all' | 'left'> | undefined {
    return this.#replay;
  }

  /** Number of new connections whose identity check has not ended. */
  get unverified(): number {
    return this.#fresh.filter(({ verified }) => !verified).length;
  }

  /** Number of new connections that wait for a FLUSH on an older one. */
  get unproven(): number {
    return this.ready.length === 0 ? 0 : this.#fresh.length - this.unverified;
  }

  /** Adds a new connection. */
  arrived(connection: Connection): void {
    const arrival = { connection, number: ++this.arrivals, verified: false, isConfirmed: false };
    this.#fresh.push(arrival);
    new IdentityCheck(this.#disk, connection, (isConfirmed) => this.#verified(arrival, isConfirmed)).begin();
  }

  /** Removes a lost connection. Call `advance` when its commands are sorted out. */
  lost(connection: Connection): void {
    this.ready = this.ready.filter((one) => one !== connection);
    this.#fresh = this.#fresh.filter((one) => one.connection !== connection);
    if (this.#replay?.connection === connection) this.#replay = undefined;
  }

  /** Makes the first `arrivals` connections ready: a FLUSH sent after their arrival is answered. */
  proven(arrivals: number): void {
    if (this.#fresh.length === 0) return;
    const isProven = ({ number, verified }: Arrival): boolean => verified && number <= arrivals;
    this.ready = [...this.ready, ...this.#fresh.filter(isProven).map(({ connection }) => connection)];
    this.#fresh = this.#fresh.filter((one) => !isProven(one));
  }

  /** An unflushed write that was sent again is answered. @param error the server's NBD_E* or 0 */
  answered(error: number): void {
    if (error !== 0 && !this.#refused) {
      this.#refused = true;
      this.#disk.lose('the server refused a write that was sent again after reconnecting');
    }
    this.advance();
  }

  /** Without a ready connection, replays the unflushed writes on the first new one. */
  advance(): void {
    const disk = this.#disk;
    const next = this.#fresh.find(({ verified }) => verified);
    if (this.ready.length > 0 || next === undefined || this.#refuses(next)) return;
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
    // The FLUSH makes the replayed writes durable and lets the other new connections be used.
    if (!disk.unflushed.empty) disk.flushInTheBackground();
    else this.proven(this.arrivals);
    disk.continueWaiting();
  }

  /** Refuses a connection that nothing proves to lead to the same disk, while a wrong one would get changes. */
  #refuses({ isConfirmed, connection }: Arrival): boolean {
    if (isConfirmed || !this.#disk.mayLose) return false;
    connection.end({
      manner: 'other disk',
      why: 'nbdfuse cannot exclude that, as it knows no block of the first one',
    });
    return true;
  }

  #verified(arrival: Arrival, isConfirmed: boolean): void {
    const disk = this.#disk;
    arrival.isConfirmed = isConfirmed;
    // With a ready connection, its next FLUSH is the proof.
    if (this.ready.length === 0 && this.#refuses(arrival)) return;
    arrival.verified = true;
    disk.accepted(arrival.connection);
    if (this.ready.length === 0) this.advance();
    else if (disk.mayLose) disk.flushInTheBackground();
    else this.proven(this.arrivals);
  }
}
