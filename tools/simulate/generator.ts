// Chooses the steps of a history at random, as its profile says.

import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EOVERFLOW,
  NBD_ESHUTDOWN,
} from '../../src/nbd/constants.js';
import type { Action, RequestAction } from './actions.js';
import type { ServerCommand, SimulatedConnection } from './connection.js';
import type { Fault, Profile } from './profile.js';
import { Random } from './random.js';
import type { Simulation, Source } from './simulation.js';
import { UNIT } from './units.js';

/** Bytes of the largest request of the kernel. */
const LARGEST = 1024 * 1024;

/** Bytes from which a server that acknowledges early reads a payload in parts. */
const LARGE = 128 * 1024;

/** Shares of the requests of a profile with bulk: large writes, and fsyncs that become writes. */
const BULK_LARGE = 0.5;
const BULK_UNFLUSHED = 0.95;

/** Share of the steps that make a loss follow, with a focus on losses: in a replay, and soon after another loss. */
const LOSS_IN_REPLAY = 0.05;
const NEXT_LOSS = 0.4;
const LOSS_DELAYS = [5, 20, 60, 150];

/** With a focus on O_DSYNC: share of such writes, and of direct ones. */
const SYNC_SHARE = 0.4;

/** Share of the steps that let time pass while a server is unreachable. */
const OUTAGE_PACE = 0.05;

/** Steps of a shutdown with faults at most, and the share of the requests of the kernel that go on. */
const STOP_STEPS = 250;
const STOP_REQUESTS = 0.3;

const RUN: Action = { do: 'run' };

/** Share of the requests, where programs call stat(2). */
const STAT_SHARE = 0.2;

/** Share of the commands that a stalling server ignores for long. */
const STALLED = 0.25;

/** See the file's head. */
export class Generator implements Source {
  readonly #profile: Profile;
  readonly #random: Random;
  /** Another sequence, for handles and failing FLUSHes: the first one stays as it is without them. */
  readonly #flushRandom: Random;
  readonly #end: Source;
  readonly #most: number;
  readonly #paces: readonly (readonly [
    weight: number,
    make: (simulation: Simulation) => Action | undefined,
  ])[];
  readonly #whole: number;
  /** For the choices of a later date: other seeds keep their histories. */
  readonly #later: Random;
  /** The same for the choices of stat(2). */
  readonly #statRandom: Random;
  #step = 0;
  /** Steps left of a shutdown with faults. */
  #stopSteps: number;
  /** The step at which a connection is lost again; undefined: none. */
  #nextLossAt: number | undefined;
  #nextId = 1;
  #nextConnection = 100;
  /** Whether the worker is to have its turn before anything else. */
  #after = false;

  /** @param most steps @param end the source of the last steps */
  constructor(profile: Profile, most: number, end: Source) {
    this.#profile = profile;
    this.#random = new Random(profile.seed);
    this.#flushRandom = new Random(profile.seed ^ 0xf1054);
    this.#statRandom = new Random(profile.seed ^ 0x57a7);
    this.#later = new Random(profile.seed ^ 0x57ab5);
    this.#stopSteps = profile.stopsBadly ? this.#later.between(10, STOP_STEPS) : 0;
    this.#most = most;
    this.#end = end;
    const { pace } = profile;
    this.#paces = [
      [pace.request, (simulation) => this.#request(simulation)],
      [pace.server, (simulation) => this.#serve(simulation)],
      [pace.network, (simulation) => this.#move(simulation)],
      [pace.clock, () => ({ do: 'advance', ms: this.#random.oneOf([0.1, 1, 5, 20, 100, 600, 2500]) })],
      [4, (simulation) => this.#mainThread(simulation)],
      [pace.fault, (simulation) => this.#fault(simulation)],
    ];
    this.#whole = this.#paces.reduce((sum, [weight]) => sum + weight, 0);
  }

  next(simulation: Simulation): Action | undefined {
    this.#step++;
    if (this.#mustStop(simulation))
      return { do: 'stop', timeout: this.#later.oneOf([0, 50, 1000, 10_000, 10_000]) };
    if (this.#isOver(simulation)) return this.#end.next(simulation);
    // Time for the retransmissions that the worker waits for.
    if (this.#has('unreachable') && simulation.server.connections.some((one) => one.cut))
      if (this.#later.chance(OUTAGE_PACE)) return { do: 'advance', ms: 6000 };
    const loss = this.#focusedLoss(simulation);
    if (loss !== undefined) return loss;
    if (this.#after) {
      this.#after = false;
      if (this.#random.chance(this.#profile.eager)) return RUN;
    }
    let choice = this.#random.next() * this.#whole;
    for (const [weight, make] of this.#paces) {
      choice -= weight;
      if (choice >= 0) continue;
      const made = make(simulation);
      if (made === undefined) break;
      this.#after = true;
      return made;
    }
    return RUN;
  }

  /** Whether a shutdown with faults begins now. */
  #mustStop({ stopSent, ready, kernel }: Simulation): boolean {
    const { stopsBadly, stopAt } = this.#profile;
    return (
      stopsBadly &&
      !stopSent &&
      ready &&
      !kernel.gone &&
      this.#step >= Math.min(stopAt ?? this.#most, this.#most)
    );
  }

  /** Whether the end of the history begins, in which nothing more goes wrong. */
  #isOver({ stopSent, kernel }: Simulation): boolean {
    if (kernel.gone) return true;
    return stopSent ? this.#stopSteps-- <= 0 : this.#step > this.#most;
  }

  /** A loss where the focus of the profile wants one. */
  #focusedLoss(simulation: Simulation): Action | undefined {
    const { focus } = this.#profile;
    if (focus !== 'loss during a replay' && focus !== 'losses in turn') return undefined;
    const { server } = simulation;
    if (!server.runs) return undefined;
    const isDue =
      focus === 'losses in turn'
        ? this.#nextLossAt !== undefined && this.#step >= this.#nextLossAt
        : this.#later.chance(LOSS_IN_REPLAY) && simulation.replays;
    if (!isDue) return undefined;
    this.#nextLossAt = undefined;
    const open = server.connections.filter(({ closed, client }) => !closed && client === 'open');
    if (open.length === 0) return undefined;
    if (this.#has('kill') && this.#later.chance(0.5)) return { do: 'kill', salt: this.#later.below(2 ** 30) };
    return { do: 'close', c: this.#later.oneOf(open).c, reset: this.#later.chance(0.5) };
  }

  /** Plans the next loss after one, with a focus on several. */
  #planLoss(): void {
    if (this.#profile.focus !== 'losses in turn' || !this.#later.chance(NEXT_LOSS)) return;
    this.#nextLossAt = this.#step + this.#later.oneOf(LOSS_DELAYS);
  }

  #has(fault: Fault): boolean {
    return this.#profile.faults.has(fault);
  }

  #stat(): Action {
    const random = this.#statRandom;
    const place = { file: random.below(this.#profile.files), offset: 0, length: 0 };
    const kind = random.oneOf(['stat', 'stat', 'stat by handle'] as const);
    return { do: kind, id: this.#nextId++, ...place, direct: false, sync: false, hidden: false };
  }

  /** A request of the kernel. */
  #request({ stopSent, syncErrors, kernel }: Simulation): Action | undefined {
    if (stopSent && !this.#later.chance(STOP_REQUESTS)) return undefined;
    if (this.#profile.stats && this.#statRandom.chance(STAT_SHARE)) return this.#stat();
    const random = this.#random;
    const { files, hot, usual, large, bulk, spread, focus, units, readAhead, zeroing } = this.#profile;
    const any = random.oneOf<RequestAction['do']>([
      'write',
      'write',
      'write',
      'write',
      'write',
      'read',
      'read',
      'read',
      'read',
      'fsync',
      random.oneOf(['punch', 'zero']),
      random.oneOf(['read', 'seek data', 'seek hole', 'open', 'release']),
    ]);
    const chosen = bulk && any === 'fsync' && random.chance(BULK_UNFLUSHED) ? 'write' : any;
    const isZeroing = chosen === 'write' && zeroing > 0 && random.chance(zeroing);
    const kind = isZeroing ? random.oneOf(['punch', 'zero'] as const) : chosen;
    const isBulk = bulk && kind === 'write';
    const isLarge = (kind === 'read' || kind === 'write') && random.chance(isBulk ? BULK_LARGE : large);
    const most = Math.min(units, LARGEST / UNIT);
    const count = isLarge ? random.oneOf([256, 520, most]) : random.between(1, usual);
    const place = spread && isBulk ? this.#later.below(units) : random.oneOf(hot) + random.below(usual * 2);
    const start = readAhead && kind === 'read' && random.chance(0.5) ? this.#step * 4 : place;
    const first = Math.min(start, Math.max(0, units - count)) % units;
    const length = Math.min(count, units - first) * UNIT;
    const moves = kind === 'read' || kind === 'write' || kind === 'punch' || kind === 'zero';
    const isFocused = focus === 'O_DSYNC' && kind === 'write';
    const direct = random.chance(0.6) || isFocused;
    const request = {
      do: kind,
      id: this.#nextId++,
      file: random.below(files),
      offset: kind === 'fsync' || kind === 'open' || kind === 'release' ? 0 : first * UNIT,
      length: moves ? length : 0,
      direct,
      sync:
        isFocused && !bulk
          ? this.#later.chance(SYNC_SHARE)
          : kind === 'write' && direct && !bulk && random.chance(0.1),
      hidden: random.chance(0.05),
    };
    if (!request.sync && kind !== 'fsync' && kind !== 'release') return request;
    const made = { ...request, handle: this.#handleFor(kind, syncErrors[request.file].handles) };
    return kernel.mayAsk(made) ? made : request;
  }

  /** A handle for a request; undefined: one that the worker does not know. */
  #handleFor(kind: RequestAction['do'], handles: readonly number[]): number | undefined {
    if (handles.length === 0 || (kind === 'release' && handles.length === 1)) return undefined;
    return this.#flushRandom.oneOf(handles);
  }

  #anyConnection(simulation: Simulation): SimulatedConnection | undefined {
    const { connections } = simulation.server;
    return connections[this.#random.below(connections.length)];
  }

  /** The server executes a command, or replies to it. */
  #serve(simulation: Simulation): Action | undefined {
    const { server } = simulation;
    if (!server.runs) return undefined;
    const connection = this.#anyConnection(simulation);
    if (connection === undefined) return undefined;
    const answerable = connection.commands.filter((one) => !one.replied && server.mayAnswer(one));
    if (answerable.length > 0 && !connection.closed && this.#random.chance(0.6)) {
      const command = this.#random.oneOf(answerable);
      // It does not read further bytes for a while.
      if (!command.executed) connection.unreadUntil = this.#step + this.#random.oneOf([10, 50, 150]);
      return { do: 'reply', c: connection.c, key: command.key, pieces: this.#random.oneOf([1, 1, 2, 5]) };
    }
    const waiting = connection.commands.filter((one) => !one.executed && this.#step >= this.#stallOf(one));
    if (waiting.length === 0) return undefined;
    const command = this.#profile.inOrder ? waiting[0] : this.#random.oneOf(waiting);
    const errno = server.isWhole(command) ? this.#errnoFor(command) : NBD_ENOSPC;
    if (server.toExecute(connection, command.key, errno !== 0) === undefined) return undefined;
    if (!server.isWhole(command)) connection.unreadUntil = this.#step + this.#random.oneOf([10, 50]);
    const execute = { do: 'execute', c: connection.c, key: command.key, errno } as const;
    return command.type === NBD_CMD_FLUSH ? this.#flush(execute) : execute;
  }

  /** A FLUSH also fails where the other commands rarely do, and may drop writes then. */
  #flush(execute: Extract<Action, { do: 'execute' }>): Action {
    const fails = this.#has('errors') && this.#flushRandom.chance(0.2);
    const errno = execute.errno === 0 && fails ? NBD_EIO : execute.errno;
    if (errno === 0 || errno === NBD_ESHUTDOWN || this.#flushRandom.chance(0.3)) return { ...execute, errno };
    return { ...execute, errno, drops: this.#flushRandom.below(2 ** 30) };
  }

  #stallOf(command: ServerCommand): number {
    if (command.stalledUntil === 0) {
      const isStalled = this.#has('stall') && this.#random.chance(STALLED);
      command.stalledUntil = isStalled ? this.#step + this.#random.oneOf([20, 100, 300, 1e9]) : 1;
    }
    return command.stalledUntil;
  }

  #errnoFor({ type, length }: ServerCommand): number {
    if (!this.#has('errors') || !this.#random.chance(0.05)) return 0;
    const halves = (type === NBD_CMD_READ || type === NBD_CMD_WRITE) && (length / 2) % 4096 === 0;
    return this.#random.oneOf([NBD_EIO, NBD_ENOSPC, NBD_ESHUTDOWN, halves ? NBD_EOVERFLOW : NBD_EIO]);
  }

  /** Bytes move one way or the other. */
  #move(simulation: Simulation): Action | undefined {
    const connection = this.#anyConnection(simulation);
    if (connection === undefined) return undefined;
    const { c } = connection;
    const isEarly = this.#has('early ack') && connection.toRead >= LARGE;
    const bytes = this.#random.oneOf(isEarly ? [28, 700, 70_000] : [1, 28, 700, 70_000, 1e9, 1e9, 1e9, 1e9]);
    if (connection.cut) return undefined;
    if (connection.onTheWay > 0 && (connection.toRead === 0 || this.#random.chance(0.5)))
      return { do: 'deliver', c, bytes };
    if (!simulation.server.runs) return undefined;
    if (this.#step < connection.unreadUntil) return undefined;
    if (this.#has('late reading') && this.#random.chance(0.05)) {
      connection.unreadUntil = this.#step + this.#random.oneOf([50, 150, 400]);
      return undefined;
    }
    const isGone = connection.client === 'closed' || connection.closed;
    if (connection.toRead > 0)
      return isGone && this.#random.chance(0.95) ? undefined : { do: 'receive', c, bytes };
    return connection.atEnd && !connection.closed && this.#random.chance(0.3)
      ? { do: 'receive', c, bytes }
      : undefined;
  }

  #mainThread(simulation: Simulation): Action | undefined {
    const lost = simulation.slots.filter(({ connection }) => connection === undefined);
    const [synced] = simulation.syncWanted;
    if (synced !== undefined && this.#random.chance(0.3))
      return { do: 'synced', file: synced, good: this.#random.chance(0.8) };
    if (lost.length === 0 || !this.#random.chance(0.3)) return undefined;
    const { file, slot } = this.#random.oneOf(lost);
    if (!simulation.reconnects) return simulation.failed.has(file) ? undefined : { do: 'fail', file };
    if (this.#has('fail') && this.#random.chance(0.05)) return { do: 'fail', file };
    return { do: 'connect', c: this.#nextConnection++, file, slot };
  }

  #fault(simulation: Simulation): Action | undefined {
    const { server, kernel } = simulation;
    const random = this.#random;
    if (!server.alive) return random.oneOf([{ do: 'start' }, { do: 'ended' }, undefined, undefined] as const);
    if (server.frozen) return random.chance(0.1) ? { do: 'thaw' } : undefined;
    if (!server.isFirst && random.chance(0.1)) return { do: 'restore' };
    if (server.hasOld && random.chance(0.1)) return { do: 'bury' };
    const cut = server.connections.find((one) => one.cut);
    if (cut !== undefined && random.chance(0.05)) return { do: 'mend', c: cut.c };
    switch (random.oneOf([...this.#profile.faults, 'none'] as const)) {
      case 'interrupt': {
        const pending = [...kernel.pending.keys()];
        if (pending.length === 0) return undefined;
        return {
          do: 'signal',
          id: random.oneOf(pending),
          deadly: random.chance(0.8),
          interrupts: random.chance(0.9),
        };
      }
      case 'close': {
        const connection = this.#anyConnection(simulation);
        if (connection === undefined || !random.chance(0.2)) return undefined;
        this.#planLoss();
        return { do: 'close', c: connection.c, reset: random.chance(0.5) };
      }
      case 'kill':
        if (!random.chance(0.15)) return undefined;
        this.#planLoss();
        return { do: 'kill', salt: random.below(2 ** 30) };
      case 'freeze':
        return random.chance(0.1) ? { do: 'freeze' } : undefined;
      case 'replace': {
        if (!random.chance(0.1)) return undefined;
        return { do: 'replace', described: random.chance(0.3), salt: random.below(2 ** 30) };
      }
      case 'timeout':
        // That time, or the time for which the worker waits for the end of a connection that it gave up.
        return { do: 'advance', ms: random.oneOf([this.#profile.timeout + 1, 11_000]) };
      case 'unreachable': {
        const connection = this.#anyConnection(simulation);
        if (connection === undefined || connection.closed || !random.chance(0.5)) return undefined;
        return { do: 'cut', c: connection.c };
      }
      case 'successor':
        return random.chance(0.2) ? { do: 'succeed' } : undefined;
      case 'unmount':
        return random.chance(0.01) ? { do: 'unmount' } : undefined;
      case 'stop':
        return random.chance(0.01) ? { do: 'stop', timeout: random.oneOf([0, 50, 10_000]) } : undefined;
      default:
        return undefined;
    }
  }
}
