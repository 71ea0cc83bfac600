// The simulated server: one process at a time, with its disks behind it and its connections.
//
// It executes commands and replies to them when the simulation decides, in any order that the profile allows.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_ESHUTDOWN,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../src/nbd/constants.js';
import type { ExportInfo } from '../../src/nbd/export-info.js';
import type { Peer } from '../../src/worker/connection/channel.js';
import { changesDisk, type ServerCommand, SimulatedConnection } from './connection.js';
import { SimulatedDisk } from './disk.js';
import { type Profile, sizeOf } from './profile.js';
import { replyBytes } from './replies.js';
import { contentsOf, FIRST_CONTENT, MISPLACED, OTHER_CONTENT, TORN, UNIT } from './units.js';
import { Violation } from './violation.js';

/** Events that the server reports to the simulation. */
export interface ServerEvents {
  /** The number of the current event. */
  event(): number;
  /** Milliseconds. */
  now(): number;
  /** A WRITE or WRITE_ZEROES has this content for a unit. */
  brought(command: ServerCommand, file: number, unit: number, content: number): void;
  /** The server executes a command that changes another disk than the first one. */
  changedOther(command: ServerCommand, connection: SimulatedConnection): void;
  /** A READ returns content of such a disk. */
  readOther(connection: SimulatedConnection): void;
  /** A FLUSH fails and drops writes. */
  dropped(connection: SimulatedConnection, command: ServerCommand): void;
  /** The worker has read that a FLUSH has failed. */
  failedFlush(connection: SimulatedConnection, command: ServerCommand): void;
}

function infoOf(profile: Profile, described: boolean): ExportInfo {
  const { flush, fua, zeroes, connections, headers, allocation, blockSizes, wholeReplies } = profile;
  const structured = headers !== 'simple';
  return {
    name: 'disk',
    size: BigInt(sizeOf(profile)),
    flags:
      NBD_FLAG_HAS_FLAGS |
      (wholeReplies ? NBD_FLAG_SEND_DF : 0) |
      (flush ? NBD_FLAG_SEND_FLUSH : 0) |
      (fua ? NBD_FLAG_SEND_FUA : 0) |
      (zeroes ? NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_TRIM : 0) |
      (connections > 1 ? NBD_FLAG_CAN_MULTI_CONN : 0),
    blockSizes,
    description: described ? 'the other disk' : 'the first disk',
    canonicalName: undefined,
    structuredReplies: structured,
    extendedHeaders: headers === 'extended',
    metaContexts: allocation && structured ? [{ id: 7, name: 'base:allocation' }] : [],
    handshake: 'fixed-newstyle',
  };
}

/** One process of the server, as the worker may see it. */
class ServerProcess implements Peer {
  ended = false;

  share(): Peer {
    return this;
  }

  release(): void {}
}

/** See the file's head. */
export class SimulatedServer {
  /** The export as the first handshake described it. */
  readonly firstInfo: ExportInfo;
  info: ExportInfo;
  alive = true;
  frozen = false;
  /** Whether the disk is the first one. */
  isFirst = true;
  connections: SimulatedConnection[] = [];
  /** The first disk of each file. */
  readonly first: readonly SimulatedDisk[];
  readonly #profile: Profile;
  readonly #events: ServerEvents;
  #disks: readonly SimulatedDisk[];
  #process = new ServerProcess();
  /** Processes that serve no new connections, and still execute commands. */
  #old: ServerProcess[] = [];

  constructor(profile: Profile, events: ServerEvents) {
    this.#profile = profile;
    this.#events = events;
    this.first = this.#makeDisks(FIRST_CONTENT, true);
    this.#disks = this.first;
    this.firstInfo = infoOf(profile, false);
    this.info = this.firstInfo;
  }

  get runs(): boolean {
    return this.alive && !this.frozen;
  }

  connect(c: number, file: number, slot: number): SimulatedConnection {
    const { room, unixSocket, knowsPeer, faults } = this.#profile;
    const ways = {
      room,
      unixSocket,
      lateReading: faults.has('late reading'),
      process: this.#process,
      knowsPeer: unixSocket && knowsPeer,
      isFirst: this.isFirst,
      event: () => this.#events.event(),
      now: () => this.#events.now(),
    };
    const made = new SimulatedConnection({ c, file, slot }, this.info, ways);
    this.connections.push(made);
    return made;
  }

  /** Reads from a connection; `brought` checks the content that arrives. @throws Violation */
  receive(connection: SimulatedConnection, bytes: number): boolean {
    if (connection.toRead === 0) return false;
    for (const command of connection.serverReads(bytes)) {
      const first = command.offset / UNIT;
      if (command.type === NBD_CMD_WRITE_ZEROES)
        for (let unit = first; unit < first + command.length / UNIT; unit++)
          this.#events.brought(command, connection.file, unit, 0);
      if (command.payload === undefined) continue;
      contentsOf(command.payload, first, (unit, content) => {
        if (content === TORN || content === MISPLACED)
          throw new Violation(
            'payload changed',
            `${command.key} brings ${content === TORN ? 'mixed bytes' : 'bytes of another place'} at offset ${unit * UNIT}`,
            'of mixed bytes',
          );
        this.#events.brought(command, connection.file, unit, content);
      });
    }
    return true;
  }

  /** The next command with a key to execute or to fail, if there is one. */
  toExecute(connection: SimulatedConnection, key: string, fails: boolean): ServerCommand | undefined {
    const isEarly = fails && this.#profile.faults.has('early ack');
    for (const command of connection.commands) {
      if (command.executed) continue;
      if (command.key === key && ((isEarly && !command.replied) || this.isWhole(command))) return command;
      if (this.#profile.inOrder) return undefined;
    }
    return undefined;
  }

  /** The next command with a key to answer, if there is one. */
  toAnswer(connection: SimulatedConnection, key: string): ServerCommand | undefined {
    return connection.commands.find((one) => one.key === key && !one.replied && this.mayAnswer(one));
  }

  /** Whether the server may reply to a command: it is executed, or the server acknowledges a WRITE early. */
  mayAnswer(command: ServerCommand): boolean {
    if (command.executed) return true;
    return this.#profile.faults.has('early ack') && command.type === NBD_CMD_WRITE && !this.isWhole(command);
  }

  /** Executes a command, or lets it fail. @param drops a FLUSH that fails also drops writes, as this number says */
  execute(connection: SimulatedConnection, command: ServerCommand, error: number, drops?: number): void {
    command.executed = true;
    command.error = error;
    const disk = this.#disks[connection.file];
    if (error !== 0) {
      const isInParts = command.type === NBD_CMD_READ && (command.flags & NBD_CMD_FLAG_DF) === 0;
      if (isInParts && this.#profile.wholeReplies) connection.serverCloses(false);
      if (command.type !== NBD_CMD_FLUSH || drops === undefined) return;
      disk.failFlush(drops);
      if (disk.isFirst) this.#events.dropped(connection, command);
      return;
    }
    if (changesDisk(command) && !disk.isFirst) this.#events.changedOther(command, connection);
    if (command.type === NBD_CMD_READ && !disk.isFirst) this.#events.readOther(connection);
    const first = command.offset / UNIT;
    const count = command.length / UNIT;
    const stable = (command.flags & NBD_CMD_FLAG_FUA) !== 0;
    if (command.type === NBD_CMD_FLUSH) disk.flush();
    else if (command.type === NBD_CMD_READ || command.type === NBD_CMD_BLOCK_STATUS)
      command.found = disk.volatile.slice(first, first + count);
    else if (command.type === NBD_CMD_WRITE_ZEROES) {
      for (let unit = first; unit < first + count; unit++) disk.write(unit, 0, stable);
    } else if (command.payload !== undefined)
      contentsOf(command.payload, first, (unit, content) => disk.write(unit, content, stable));
  }

  answer(connection: SimulatedConnection, command: ServerCommand, pieces: number): void {
    command.replied = true;
    const isFailedFlush =
      command.type === NBD_CMD_FLUSH && command.error !== 0 && command.error !== NBD_ESHUTDOWN;
    connection.answer(
      replyBytes(command, connection.info, (command.flags & NBD_CMD_FLAG_DF) === 0 ? pieces : 1),
      isFailedFlush ? () => this.#events.failedFlush(connection, command) : undefined,
    );
  }

  kill(salt: number): void {
    this.alive = false;
    this.bury();
    this.#process.ended = true;
    this.frozen = false;
    for (const connection of this.connections) connection.serverDies();
    this.connections = this.connections.filter(({ client }) => client !== 'closed');
    for (const disk of this.#disks) disk.crash(salt);
  }

  start(): void {
    this.alive = true;
    this.#process = new ServerProcess();
  }

  /** Whether a process that was replaced still works. */
  get hasOld(): boolean {
    return this.#old.length > 0;
  }

  /** Another process replaces this one, which closes its connections and executes its remaining commands. */
  succeed(): void {
    for (const connection of this.connections)
      if (connection.process === this.#process) connection.serverCloses(false);
    this.#old.push(this.#process);
    this.#process = new ServerProcess();
  }

  /** The replaced processes end. */
  bury(): void {
    for (const one of this.#old) one.ended = true;
    for (const connection of this.connections) if (connection.process.ended) connection.serverDies();
    this.#old = [];
  }

  /** The server has another disk from now on. */
  replace(described: boolean): void {
    this.#disks = this.#makeDisks(OTHER_CONTENT, false);
    this.info = infoOf(this.#profile, described);
    this.isFirst = false;
    this.start();
  }

  restore(): void {
    this.#disks = this.first;
    this.info = this.firstInfo;
    this.isFirst = true;
    this.start();
  }

  /** Whether the server has read all of it. */
  isWhole({ payload, got }: ServerCommand): boolean {
    return payload === undefined || got === payload.length;
  }

  #makeDisks(content: number, isFirst: boolean): SimulatedDisk[] {
    const { files, units, flush } = this.#profile;
    return Array.from({ length: files }, () => new SimulatedDisk(units, content, isFirst, !flush));
  }
}
