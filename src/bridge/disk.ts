// One export in the worker: its connections, the commands that wait for one, and what was lost.
//
// Used by the data operations, which hand commands over with `submit` and hear of each through
// `Operations.commandDone`. Never blocks. A lost connection's commands wait for another one, which the
// Recovery says may be used. While the disk is `failing`, nothing waits: every command ends with that
// errno until a connection is attached.

import type { Node } from '../file/tree.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EOVERFLOW,
} from '../nbd/constants.js';
import { errnoFromNbd } from '../nbd/errors.js';
import { type ExportInfo, effectiveBlockSizes } from '../nbd/export-info.js';
import { type Abilities, abilitiesOf } from './abilities.js';
import type { Channel } from './channel.js';
import { COMMAND_KEPT, COMMAND_QUEUED, type Command, CommandQueue, changesDisk } from './command.js';
import { Connection } from './connection.js';
import { moved } from './counters.js';
import type { DiskContext } from './disk-context.js';
import { DiskSink } from './disk-sink.js';
import { ExtentMap } from './extent-map.js';
import { Farewells } from './farewells.js';
import { FlushPace } from './flush-pace.js';
import { Journal } from './journal.js';
import { Latency } from './latency.js';
import { high, join, low } from './offsets.js';
import { RangeLocks } from './range-locks.js';
import type { Ranges } from './ranges.js';
import { Recovery } from './recovery.js';
import { Seekers } from './seekers.js';

/** See the file's head. */
export class Disk {
  readonly index: number;
  readonly node: Node;
  readonly info: ExportInfo;
  readonly sizeHi: number;
  readonly sizeLo: number;
  /** Bytes: requests are multiples of it, but for the end of the disk. */
  readonly minimum: number;
  /** Bytes of the last block where that is less than the minimum that the server has advertised, else 0. */
  readonly tail: number;
  /** Bytes of payload of one command at most: a multiple of `minimum`. */
  maximum: number;
  readonly can: Abilities;
  readonly journal: Journal;
  readonly context: DiskContext;
  /** See COUNTER. */
  readonly counters: Float64Array;
  /** Order among writes; undefined where every byte can be written by itself. */
  readonly locks: RangeLocks | undefined;
  /** What is known of holes and data. */
  readonly extents: ExtentMap;
  /** Whether its server is far. */
  readonly latency = new Latency();
  /** 0, or the errno with which everything ends that would have to wait for a connection. */
  failing = 0;
  /** Whether something was written since the last FLUSH was sent. */
  dirty = false;
  /** How often it is open. */
  opens = 0;
  /** How often for writing: only while it is can the kernel hold unsent writes. */
  writers = 0;
  /** Whether `node.blocks` knows of a hole, if there is one at the beginning. */
  lookedForHoles = false;
  /** Whether `node.blocks` is as true as it gets. */
  scanned = false;
  readonly seekers = new Seekers();
  /** Errno that the next fsync tells once: something acknowledged may be lost. */
  lossError = 0;
  /** How the last FLUSH of our own has ended. */
  flushError = 0;
  /** Connections that were given up, and that the server has not closed yet. */
  readonly farewells = new Farewells();
  readonly #waiting = new CommandQueue();
  #connections: Connection[] = [];
  readonly #recovery = new Recovery(this);
  readonly #pace: FlushPace;
  #refused: Ranges | undefined;

  constructor(index: number, node: Node, info: ExportInfo, context: DiskContext, counters: Float64Array) {
    this.index = index;
    this.node = node;
    this.info = info;
    this.context = context;
    this.counters = counters;
    this.sizeHi = high(info.size);
    this.sizeLo = low(info.size);
    const sizes = effectiveBlockSizes(info);
    this.minimum = sizes.minimum;
    this.tail = info.blockSizes === undefined ? 0 : this.sizeLo & (sizes.minimum - 1);
    const wanted = Math.min(sizes.maximum, context.largestPayload);
    this.maximum = Math.max(wanted - (wanted % sizes.minimum), sizes.minimum);
    this.extents = new ExtentMap(this.minimum, info.extendedHeaders, context.keepExtents);
    this.locks = this.minimum > 1 ? new RangeLocks() : undefined;
    this.can = abilitiesOf(info);
    this.journal = new Journal(this.can.flush ? context.keepBytes : 0, (command) => context.retire(command));
    // While a FLUSH is under way, as much again may be written.
    this.#pace = new FlushPace(this.journal.limit / 2);
  }

  /** The connections that are alive. */
  get connections(): readonly Connection[] {
    return this.#connections;
  }

  /** Whether commands have to wait: no connection that may be used, or one that must be waited for. */
  get waiting(): boolean {
    return this.#recovery.ready.length === 0 || this.farewells.pending;
  }

  /** Sends a command, or lets it wait for a connection. Its end comes through `commandDone`. */
  submit(command: Command): void {
    if (this.waiting) {
      if (this.failing !== 0) this.#giveUp(command);
      else this.#waiting.push(command);
      return;
    }
    this.assign(command, this.#leastLoaded());
  }

  /** Puts a command into one connection's queue. */
  assign(command: Command, connection: Connection): void {
    command.state = COMMAND_QUEUED;
    command.connection = connection;
    if (command.type === NBD_CMD_FLUSH) {
      command.sequence = this.journal.mark;
      command.arrivals = this.#recovery.arrivals;
      this.dirty = false;
    } else if (changesDisk(command)) {
      this.dirty = true;
      this.extents.wrote(command);
    } else if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.asked(this.changesUnderWay());
    if (connection.inFlight === 0) connection.lastProgress = this.context.now();
    connection.enqueue(command);
  }

  /** Adds a connection in its transmission phase; what waited goes out. */
  attach(channel: Channel, number: number, info: ExportInfo): Connection {
    const sink = new DiskSink(this, this.context);
    const connection = new Connection(channel, number, info, sink);
    sink.connection = connection;
    this.#connections.push(connection);
    this.failing = 0;
    this.farewells.bound(this.context.now());
    this.#recovery.arrived(connection);
    this.continueWaiting();
    return connection;
  }

  /** From now on nothing waits for a connection: `errno` for all that does and will. */
  fail(errno: number): void {
    this.failing = errno;
    if (!this.waiting) return;
    for (let command = this.#waiting.shift(); command !== undefined; command = this.#waiting.shift()) {
      this.#giveUp(command);
    }
  }

  /** Leaves the server; all that waits and will come fails with `errno`, and what was to be written is noted. */
  surrender(errno: number, refused: Ranges): void {
    this.#refused = refused;
    this.failing = errno;
    for (const connection of this.#connections) {
      connection.disconnect();
      this.context.connectionLost(this, connection, 'given up', false);
    }
    this.farewells.close();
    this.fail(errno);
  }

  /** Looks after the connections that were given up; what waited for their end goes out. */
  checkFarewells(now: number): void {
    if (!this.farewells.isOver(now)) return;
    this.#recovery.advance();
    this.continueWaiting();
  }

  /** Takes a lost connection out; its commands wait for another. Returns how many. */
  connectionLost(connection: Connection): number {
    this.#connections = this.#connections.filter((one) => one !== connection);
    const orphans = this.context.commands.of(connection);
    this.#recovery.lost(connection);
    // Those of a broken-off replay are back in the journal before a new one begins.
    for (const command of orphans) {
      this.context.lanes.abandon(command);
      if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.gaveUp();
      this.context.commands.renew(command);
      if (command.replayed) {
        command.replayed = false;
        command.state = COMMAND_KEPT;
      } else this.submit(command);
    }
    this.#recovery.advance();
    return orphans.length;
  }

  /** Called by the sink for each whole reply; `error` is the server's `NBD_E*` or 0. */
  answered(command: Command, error: number, text: string): void {
    if (command.replayed) {
      command.replayed = false;
      command.state = COMMAND_KEPT;
      // Back in the journal it belongs to no connection: it must not be taken for one's orphan.
      command.connection = undefined;
      this.#recovery.answered(error);
      return;
    }
    if (command.type === NBD_CMD_READ)
      this.latency.answered(command, this.context.now(), moved(this.counters));
    if (error === NBD_EOVERFLOW && this.#splitFurther(command)) return;
    const errno = error === 0 ? 0 : errnoFromNbd(error);
    if (errno !== 0) this.context.serverError(this, command, errno, text);
    else if (command.type === NBD_CMD_FLUSH) this.journal.forget(command.sequence);
    if (command.type === NBD_CMD_FLUSH) this.#recovery.proven(command.arrivals);
    if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.answered(command);
    this.context.commandDone(command, errno);
  }

  /** Remembers an answered write, and asks for a FLUSH when that has become much. */
  remember(command: Command): void {
    this.journal.keep(command);
    this.#relieve(this.journal.bytes);
  }

  /** Lets what waited go out, if it can. */
  continueWaiting(): void {
    while (!this.waiting) {
      const command = this.#waiting.shift();
      if (command === undefined) return;
      this.submit(command);
    }
  }

  /** Something acknowledged may be gone: the next fsync says so, and a person hears why. */
  lose(why: string): void {
    this.lossError = this.context.lossErrno;
    this.context.warn(this, `${why}: some of it may be lost, which the next fsync says`);
  }

  /** The errno that an fsync must tell, once: 0 or EIO. */
  takeLossError(): number {
    const error = this.lossError;
    this.lossError = 0;
    return error;
  }

  /** Asks for a FLUSH of what is remembered, so that its memory can be used again. */
  relieve(): void {
    if (!this.journal.empty) this.#relieve(Number.POSITIVE_INFINITY);
  }

  /** A FLUSH of our own has ended, with an errno or 0. */
  flushEnded(errno: number): void {
    this.#pace.ended(this.context.now(), errno === 0);
    this.flushError = errno;
  }

  /** The server takes no payload of this size after all: asks again in halves, from now on always. */
  #splitFurther(command: Command): boolean {
    const half = Math.floor(command.length / 2 / this.minimum) * this.minimum;
    if (half === 0 || ![NBD_CMD_READ, NBD_CMD_WRITE].includes(command.type)) return false;
    this.maximum = Math.min(this.maximum, half);
    this.context.resubmit(command, this);
    return true;
  }

  /** The same where `bytes` are enough to be worth it, and no such FLUSH is under way. */
  #relieve(bytes: number): void {
    if (this.waiting || !this.#pace.begins(bytes, this.context.now())) return;
    this.context.flushInTheBackground(this);
  }

  #giveUp(command: Command): void {
    if (changesDisk(command)) this.#refused?.add(join(command.offsetHi, command.offsetLo), command.length);
    this.context.commandDone(command, this.failing);
  }

  /** Whether a server that was started anew might lack something, until a FLUSH has been answered. */
  get mayLose(): boolean {
    return this.journal.limit > 0 && (!this.journal.empty || this.changesUnderWay().length > 0);
  }

  /** The commands given to connections that change the disk. */
  changesUnderWay(): Command[] {
    return this.#connections.flatMap((one) => this.context.commands.of(one)).filter(changesDisk);
  }

  #leastLoaded(): Connection {
    const { ready } = this.#recovery;
    let best = ready[0];
    for (const connection of ready) {
      if (connection.inFlight < best.inFlight) best = connection;
    }
    return best;
  }
}
