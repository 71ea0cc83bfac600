// The world of one history: kernel, server, main thread and clock around the worker's own code.
//
// `apply` takes one step. Nothing else causes events: the worker runs between two steps, when a `run` allows
// it.

import { EINTR, EIO } from '../../src/constants/errno.js';
import { errnoName } from '../../src/constants/errno-names.js';
import { discardPages } from '../../src/linux/memory.js';
import { sameExport } from '../../src/nbd/export-info.js';
import { type Call, deliver, type Send, sender } from '../../src/worker/contract/call.js';
import type {
  FromWorker,
  StopOutcome,
  ToWorker,
  WorkerSettings,
} from '../../src/worker/contract/messages.js';
import { FIRST_STATUS_TIME } from '../../src/worker/fuse/block-counts.js';
import type { World } from '../../src/worker/world.js';
import { type Action, actionText, isRequest, type RequestAction, requestText } from './actions.js';
import { type Change, Checker } from './checker.js';
import type { ServerCommand, SimulatedConnection } from './connection.js';
import { Coverage } from './coverage.js';
import { firstOpens, type KernelRequest, SimulatedKernel } from './kernel.js';
import { takeArea } from './memory.js';
import { SimulatedPoll } from './poll.js';
import { type Profile, partOf, profileText } from './profile.js';
import { mix } from './random.js';
import { SimulatedServer } from './server.js';
import { type SyncError, SyncErrors } from './sync-errors.js';
import { contentsOf, FIRST_CONTENT, OTHER_CONTENT, UNIT } from './units.js';
import { Violation } from './violation.js';

const DEVICE = 900_000;
const WAKE = 900_001;

/** Kernel release for the worker: one that shares pages with sockets, and sends dirty pages during an LSEEK. */
const KERNEL_RELEASE = '6.18.0';

const START = 100_000;
const START_OF_DAY = 1_700_000_000_000;

/** Milliseconds for which the worker may run after it has failed everything. */
const STOP_SLACK = 700;

/** Offset of `st_blocks` in the reply to a GETATTR. */
const ATTR_BLOCKS = 32;

/** Maximum steps of one history: a longer one would never end. */
const MOST_TRIES = 200_000;

/** The source of the steps: a generator, or a list. */
export interface Source {
  /** The next step while the worker waits; undefined: the history is at its end. */
  next(simulation: Simulation): Action | undefined;
}

const nameOf = (file: number): string => `disk${file}`;

/** A connection's place in the main thread. */
export interface Slot {
  readonly file: number;
  readonly slot: number;
  connection: SimulatedConnection | undefined;
  /** Whether it ever had one. */
  isUsed: boolean;
}

/** See the file's head. */
export class Simulation {
  readonly profile: Profile;
  readonly kernel: SimulatedKernel;
  readonly server: SimulatedServer;
  readonly checkers: readonly Checker[];
  readonly syncErrors: readonly SyncErrors[];
  readonly coverage = new Coverage();
  readonly slots: Slot[] = [];
  readonly world: World;
  /** The taken steps. */
  readonly steps: Action[] = [];
  readonly syncWanted = new Set<number>();
  /** Files that fail their requests. */
  readonly failed = new Set<number>();
  now = START;
  digest = 0;
  stopSent = false;
  /** Whether the steps are those of the end, which every replay makes again. */
  ending = false;
  /** The manner in which the worker has ended. */
  outcome: StopOutcome | undefined;
  ready = false;
  readonly #log: string[] | undefined;
  readonly #source: Source;
  readonly #calls: Call<ToWorker>[] = [];
  readonly #writes = new Map<number, RequestAction>();
  /** The times of the GETATTRs of stat(2). */
  readonly #looks = new Map<number, number>();
  /** When a connection of a file was last lost or accepted, as a number of events. */
  readonly #lastTurns = new Map<number, number>();
  readonly #attached = new Map<number, number>();
  #events = 0;
  #tries = 0;
  /** Counts the states that the worker is in; called when it waits. */
  seeStates: () => void = () => undefined;
  /** Whether unflushed writes of a file are sent again now. */
  isReplaying: (file: number) => boolean = () => false;
  /** Files that lost a connection since their last fsync, with its time. */
  readonly #lastLosses = new Map<number, number>();
  /** The time by which the worker must fail everything, and that at which it had a turn after it. */
  #stopDeadline = Number.POSITIVE_INFINITY;
  #overdueSince: number | undefined;
  /** Whether the worker has a sample of the disk of a file, and whether it has changes that a server may lack. */
  isKnown: (file: number) => boolean = () => false;
  mayLose: (file: number) => boolean = () => false;
  /** Files with a connection to another disk that the worker took for the first one before it knew or changed that. */
  readonly #blind = new Set<number>();
  /** Files whose server has dropped writes, of which the worker may not learn: it takes them for flushed. */
  readonly #dropping = new Set<number>();
  /** Files whose first disk the worker does not recognize. */
  readonly refused = new Set<number>();
  #isMistaken = false;
  /** The errors that the worker has read in this turn: it may close the connection before it understands them. */
  readonly #readNow: { readonly error: SyncError; readonly connection: SimulatedConnection }[] = [];
  /** The changes that a failed FLUSH may have dropped. */
  readonly #atRisk = new Map<ServerCommand, readonly Change[]>();

  /** @param log receives the lines of the history, if there is one */
  constructor(profile: Profile, source: Source, log: string[] | undefined) {
    this.profile = profile;
    this.#source = source;
    this.#log = log;
    const parts = { files: profile.files, ...partOf(profile) };
    this.kernel = new SimulatedKernel(parts, (request, error, body) => this.#answered(request, error, body));
    this.server = new SimulatedServer(profile, {
      event: () => this.#events,
      now: () => this.now,
      brought: (command, file, unit, content) => this.#brought(command, file, unit, content),
      changedOther: (command, connection) => this.#changedOther(command, connection),
      readOther: ({ file }) => {
        // Later writes may contain bytes from there.
        if (this.#mayMistake(file)) this.#isMistaken = true;
      },
      dropped: ({ file }, command) => this.#dropped(file, command),
      failedFlush: (connection, command) => this.#flushFailed(connection, command),
    });
    this.checkers = Array.from({ length: profile.files }, () => new Checker(profile.units));
    this.syncErrors = this.checkers.map(() => new SyncErrors());
    this.world = this.#makeWorld();
    for (let file = 0; file < profile.files; file++) this.#showPart(file);
    // Without FLUSH there is no loss that an fsync could report.
    for (let file = 0; profile.flush && file < profile.files; file++)
      for (const action of firstOpens(file)) this.kernel.ask(action, this.#events, undefined);
    for (let file = 0; file < profile.files; file++)
      for (let slot = 0; slot < profile.connections; slot++)
        this.slots.push({ file, slot, connection: undefined, isUsed: false });
    for (let c = 0; c < this.slots.length; c++) this.#connect(c, c);
    this.note(() => profileText(profile));
  }

  /** Whether the main thread connects again: otherwise the worker keeps no writes. */
  get reconnects(): boolean {
    return this.profile.unflushedLimit > 0;
  }

  /**
   * Whether a loss is the server's fault: it acknowledges commands without executing them, or showed another
   * disk that is indistinguishable from the first one.
   */
  get lies(): boolean {
    return this.#isMistaken || this.profile.faults.has('early ack');
  }

  /** Whether unflushed writes of some file are sent again now. */
  get replays(): boolean {
    return this.checkers.some((_, file) => this.isReplaying(file));
  }

  /** The settings of the worker. */
  get settings(): WorkerSettings {
    const { profile } = this;
    return {
      device: DEVICE,
      wake: WAKE,
      files: Array.from({ length: profile.files }, (_, i) => ({
        name: nameOf(i),
        readOnly: false,
        info: this.server.firstInfo,
        server: 'the simulation',
        tls: false,
      })),
      changing: false,
      fileMountpoint: false,
      tree: { uid: 0, gid: 0, umask: 0, now: START_OF_DAY },
      cache: profile.cache,
      trace: undefined,
      unflushedLimit: profile.unflushedLimit,
      wholeReads: false,
      timeout: profile.timeout,
      settleTime: profile.settleTime,
      asyncRead: true,
      readAhead: profile.readAhead,
      readThreads: 0,
      version: '',
      dropPagesOnOpen: false,
    };
  }

  /** Takes a step; false: it cannot be taken now. @throws Violation */
  apply(action: Action): boolean {
    this.#events++;
    // Logged before it is taken, because it may end the history.
    if (!this.ending) this.steps.push(action);
    const lines = this.#log?.length ?? 0;
    if (action.do !== 'run') this.note(() => actionText(action));
    const taken = isRequest(action) ? this.#ask(action) : this.#applyOther(action);
    if (!taken) {
      if (!this.ending) this.steps.pop();
      if (this.#log !== undefined) this.#log.length = lines;
      return false;
    }
    this.coverage.count(action.do);
    this.digest = mix(this.digest, action.do.length * 31 + action.do.charCodeAt(0));
    return true;
  }

  note(text: () => string): void {
    this.#log?.push(`${String(Math.round(this.now - START)).padStart(7)} ms  ${text()}`);
  }

  /** The worker shows a part of each disk as a file, as with --partitions. */
  #showPart(file: number): void {
    const { start, end } = partOf(this.profile);
    const texts = { name: `part of ${nameOf(file)}`, type: '', label: '', uuid: '' };
    const part = { ...texts, number: 1, offset: BigInt(start), size: BigInt(end - start) };
    this.#send('showParts', file, [part]);
  }

  /** The connection that the server still has under this number. */
  connection(c: number): SimulatedConnection | undefined {
    return this.server.connections.find((one) => one.c === c);
  }

  /** A connection that reaches the server is made in the slot of that place. */
  #connect(place: number, c: number): boolean {
    const slot = this.slots[place];
    if (slot === undefined || slot.connection !== undefined || !this.server.runs) return false;
    if (!this.reconnects && slot.isUsed) return false;
    const difference = sameExport(this.server.firstInfo, this.server.info);
    if (difference !== undefined) return false;
    const connection = this.server.connect(c, slot.file, slot.slot);
    slot.connection = connection;
    slot.isUsed = true;
    this.#send('attach', {
      file: slot.file,
      arrival: this.#countAttachment(slot.file),
      connection: slot.slot,
      descriptor: connection.descriptor,
      tls: undefined,
      peer: undefined,
      info: connection.info,
    });
    return true;
  }

  #applyOther(action: Exclude<Action, RequestAction>): boolean {
    switch (action.do) {
      case 'run':
        return true;
      case 'advance':
        this.#settles(action.ms);
        return true;
      case 'signal':
        return this.#signal(action);
      case 'connect':
        return this.#connect(
          this.slots.findIndex((one) => one.file === action.file && one.slot === action.slot),
          action.c,
        );
      case 'fail':
        if (this.failed.has(action.file) && !this.reconnects) return false;
        if (this.slots.some((one) => one.file === action.file && one.connection !== undefined)) return false;
        this.#fail(action.file);
        return true;
      case 'synced':
        if (!this.syncWanted.delete(action.file)) return false;
        this.#send('synced', action.file, action.good);
        return true;
      case 'stop':
        if (this.stopSent) return false;
        this.stopSent = true;
        for (const errors of this.syncErrors) errors.isAway(true, this.#events);
        this.#send('stop', action.timeout);
        return true;
      case 'unmount':
        if (this.kernel.gone) return false;
        this.#unmount();
        return true;
      default:
        return this.#applyServer(action);
    }
  }

  /** Time passes. A server with a settle time obeys it. */
  #settles(ms: number): void {
    const { connections } = this.server;
    const closed = connections.filter(({ client }) => client === 'closed');
    for (const one of closed) one.closedAt ??= this.now;
    this.now += ms;
    for (const one of closed)
      if (this.now - (one.closedAt ?? this.now) >= this.profile.settleTime) one.serverForgets();
  }

  #applyServer(
    action: Extract<
      Action,
      {
        do:
          | 'receive'
          | 'execute'
          | 'reply'
          | 'deliver'
          | 'close'
          | 'cut'
          | 'mend'
          | 'kill'
          | 'ended'
          | 'start'
          | 'succeed'
          | 'bury'
          | 'freeze'
          | 'thaw'
          | 'replace'
          | 'restore';
      }
    >,
  ): boolean {
    const { server } = this;
    switch (action.do) {
      case 'ended':
        // The main thread sees the end of its child, the server.
        if (server.alive || !this.reconnects || !this.profile.ownServer) return false;
        for (let file = 0; file < this.checkers.length; file++)
          this.#send('serverEnded', file, this.#attached.get(file) ?? 0);
        return true;
      case 'succeed':
        if (!server.runs) return false;
        server.succeed();
        return true;
      case 'bury':
        if (!server.hasOld) return false;
        server.bury();
        return true;
      case 'kill':
        if (!server.alive) return false;
        server.kill(action.salt);
        return true;
      case 'start':
        if (server.alive) return false;
        server.start();
        return true;
      case 'freeze':
      case 'thaw':
        if (!server.alive || server.frozen === (action.do === 'freeze')) return false;
        server.frozen = action.do === 'freeze';
        return true;
      case 'replace':
        if (!server.isFirst) return false;
        if (server.alive) server.kill(action.salt);
        server.replace(action.described);
        return true;
      case 'restore':
        if (server.isFirst) return false;
        if (server.alive) server.kill(0);
        server.restore();
        return true;
      default: {
        const connection = this.connection(action.c);
        return connection !== undefined && this.#applyConnection(action, connection);
      }
    }
  }

  #applyConnection(
    action: Extract<Action, { do: 'receive' | 'execute' | 'reply' | 'deliver' | 'close' | 'cut' | 'mend' }>,
    connection: SimulatedConnection,
  ): boolean {
    const { server } = this;
    if (action.do === 'deliver') {
      if (connection.onTheWay === 0 || connection.cut) return false;
      connection.deliver(action.bytes);
      return true;
    }
    if (action.do === 'cut' || action.do === 'mend') {
      if (this.profile.unixSocket || connection.cut === (action.do === 'cut')) return false;
      connection.setCut(action.do === 'cut');
      this.#afterwards(connection);
      return true;
    }
    if (!server.runs) return false;
    if (action.do === 'close') {
      if (connection.closed || connection.cut) return false;
      connection.serverCloses(action.reset);
      return true;
    }
    if (action.do === 'receive') return this.#receive(connection, action.bytes);
    if (action.do === 'execute') {
      const command = server.toExecute(connection, action.key, action.errno !== 0);
      if (command === undefined) return false;
      server.execute(connection, command, command.replied ? 0 : action.errno, action.drops);
      this.#afterwards(connection);
      return true;
    }
    const command = server.toAnswer(connection, action.key);
    if (command === undefined || connection.closed) return false;
    server.answer(connection, command, action.pieces);
    this.#afterwards(connection);
    return true;
  }

  #receive(connection: SimulatedConnection, bytes: number): boolean {
    if (connection.cut) return false;
    if (!this.server.receive(connection, bytes)) {
      if (!connection.atEnd || connection.closed) return false;
    }
    this.#afterwards(connection);
    return true;
  }

  /** Lets the server react to the end of a connection. */
  #afterwards(connection: SimulatedConnection): void {
    connection.tidy();
    if (!connection.atEnd) return;
    connection.dropIncomplete();
    const isDone = connection.commands.every(({ executed, replied }) => executed && replied);
    if (isDone || connection.client === 'closed') connection.serverCloses(false);
    connection.tidy();
    if (connection.closed && connection.client === 'closed' && connection.commands.length === 0)
      this.server.connections = this.server.connections.filter((one) => one !== connection);
  }

  #ask(action: RequestAction): boolean {
    if (this.kernel.gone || this.kernel.pending.has(action.id) || !this.kernel.mayAsk(action)) return false;
    const { do: kind, id, offset, length, file, handle = 0 } = action;
    if (kind === 'release') this.syncErrors[file].closed(handle);
    let change: Change | undefined;
    if (kind === 'write' || kind === 'punch' || kind === 'zero') {
      const content = kind === 'write' ? id : 0;
      const name = requestText(action);
      this.#countMixed(action);
      change = this.checkers[file].begins(content, name, offset / UNIT, length / UNIT, this.#events);
      if (kind === 'write') this.#writes.set(id, action);
    }
    if (kind === 'stat') this.#looks.set(id, this.now);
    this.kernel.ask(action, this.#events, change);
    return true;
  }

  /** Counts writes with and without O_DSYNC to the same place at the same time. */
  #countMixed({ do: kind, file, offset, length, sync }: RequestAction): void {
    if (kind !== 'write') return;
    for (const { action } of this.kernel.pending.values()) {
      const isOther = action.do === 'write' && action.file === file && action.sync !== sync;
      if (isOther && action.offset < offset + length && offset < action.offset + action.length) {
        this.coverage.count('write: O_DSYNC beside a plain one');
        return;
      }
    }
  }

  #signal({ id, deadly, interrupts }: Extract<Action, { do: 'signal' }>): boolean {
    const request = this.kernel.pending.get(id);
    if (request === undefined) return false;
    const back = this.kernel.signal(request, deadly, interrupts);
    if (back?.change !== undefined) this.#end(back, 'interrupted');
    return true;
  }

  #end({ change, action }: KernelRequest, outcome: Change['outcome']): void {
    if (change !== undefined) this.checkers[action.file].ends(change, outcome, ++this.#events);
  }

  /** The kernel has got its reply. @throws Violation */
  #answered(request: KernelRequest, error: number, body: Uint8Array): void {
    const { action, begin, change } = request;
    this.#events++;
    this.digest = mix(mix(this.digest, action.id), error);
    this.note(() => `  ${requestText(action)}: ${error === 0 ? 'ok' : errnoName(error)}`);
    this.coverage.count(error === 0 ? `${action.do} ok` : `${action.do}: ${errnoName(error)}`);
    const checker = this.checkers[action.file];
    if (change !== undefined) {
      this.#end(request, error === 0 ? 'acknowledged' : error === EINTR ? 'interrupted' : 'failed');
      if (action.sync) this.#wroteInSync(request, change, error);
      return;
    }
    if (action.do === 'open' && error === 0)
      this.syncErrors[action.file].opened(action.id, begin, this.#events);
    else if (action.do === 'fsync') this.#synced(request, error);
    else if (action.do === 'read' && error === 0) this.#read(checker, request, body);
    else if (action.do === 'seek data' && error === 0) this.#sought(checker, request, body);
    else if (action.do === 'stat' && error === 0) this.#looked(checker, request, body);
  }

  #synced({ action, begin }: KernelRequest, error: number): void {
    const { file, handle = 0 } = action;
    const sync = { handle, name: requestText(action), begin, now: this.#events };
    if (error === 0) {
      if (!this.lies) this.syncErrors[file].succeeded(sync);
      this.#lastLosses.delete(file);
      this.checkers[file].synced(begin, this.#oldest);
    } else if (error !== EINTR && !this.lies) this.syncErrors[file].failed(sync);
  }

  /** A write with O_DSYNC is a write and an fsync, but for FUA. */
  #wroteInSync({ action, begin }: KernelRequest, change: Change, error: number): void {
    const { file, handle = 0 } = action;
    const { flush, fua } = this.profile;
    const sync = { handle, name: requestText(action), begin, now: this.#events };
    if (error === 0) {
      if (flush && !fua && !this.lies) this.syncErrors[file].succeeded(sync);
      this.checkers[file].lasting(change, this.#oldest);
    } else if (error !== EINTR) this.syncErrors[file].mayBeTold(handle, this.#events);
  }

  /** A FLUSH has failed at the server, which drops writes. */
  #dropped(file: number, command: ServerCommand): void {
    const { atRisk } = this.checkers[file];
    this.#atRisk.set(command, atRisk);
    // Another connection may be there when the worker loses this one and does not learn of the failure.
    if (this.profile.connections > 1) {
      this.checkers[file].loses(atRisk);
      this.#dropping.add(file);
    }
  }

  /** The worker has read that a FLUSH has failed. */
  #flushFailed(connection: SimulatedConnection, command: ServerCommand): void {
    const { file } = connection;
    this.checkers[file].loses(this.#atRisk.get(command) ?? []);
    const error = this.syncErrors[file].raised('the server has failed a FLUSH', ++this.#events);
    this.#readNow.push({ error, connection });
  }

  #read(checker: Checker, { action, begin }: KernelRequest, body: Uint8Array): void {
    if (body.length !== action.length)
      throw new Violation('replies', `${requestText(action)} returns ${body.length} bytes`);
    contentsOf(body, action.offset / UNIT, (unit, content) => {
      this.digest = mix(this.digest, content);
      if (content === OTHER_CONTENT && !this.#mayMistake(action.file))
        throw new Violation('other disk', `${requestText(action)} returns bytes of another disk`);
      if (content !== OTHER_CONTENT && !this.lies) checker.read(unit, content, begin, this.#events);
    });
  }

  #sought(checker: Checker, { action, begin }: KernelRequest, body: Uint8Array): void {
    if (this.lies) return;
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    const end = Number(view.getBigUint64(0, true)) / UNIT;
    for (let unit = action.offset / UNIT; unit < end; unit++)
      if (checker.isData(unit, begin))
        throw new Violation('hole over data', `${requestText(action)} skips data at offset ${unit * UNIT}`);
  }

  /** A stat(2) that need not be answered early counts all data. */
  #looked(checker: Checker, { action, begin }: KernelRequest, body: Uint8Array): void {
    const isEarly = this.now - (this.#looks.get(action.id) ?? 0) >= FIRST_STATUS_TIME;
    const isConnected = this.slots.every((one) => one.file !== action.file || one.connection !== undefined);
    if (this.lies || isEarly || !isConnected || (this.#lastTurns.get(action.file) ?? 0) >= begin) return;
    this.coverage.count('stat: all data count');
    const blocks = new DataView(body.buffer, body.byteOffset, body.byteLength).getBigUint64(
      ATTR_BLOCKS,
      true,
    );
    let least = 0;
    for (let unit = 0; unit < this.profile.units; unit++) if (checker.isData(unit, begin)) least++;
    if (blocks < BigInt(least))
      throw new Violation('hole over data', `${requestText(action)} returns ${blocks} blocks of ${least}`);
  }

  /** The time at which the oldest request without a reply began. */
  get #oldest(): number {
    let oldest = this.#events;
    for (const { begin } of this.kernel.pending.values()) oldest = Math.min(oldest, begin);
    return oldest;
  }

  /** Whether the worker could not notice that this is another disk. */
  #mayMistake(file: number): boolean {
    return this.#blind.has(file) && this.server.info.description === this.server.firstInfo.description;
  }

  /** A WRITE's content for one unit has come to the server. @throws Violation */
  #brought({ key, sentAt }: ServerCommand, file: number, unit: number, content: number): void {
    this.#isNewest(key, file, unit, content, sentAt);
    if (content === 0 || content === FIRST_CONTENT || content === OTHER_CONTENT) return;
    const write = this.#writes.get(content);
    const isRight =
      write !== undefined &&
      write.file === file &&
      unit * UNIT >= write.offset &&
      unit * UNIT < write.offset + write.length;
    if (!isRight)
      throw new Violation('payload changed', `${key} brings bytes of #${content} at offset ${unit * UNIT}`);
  }

  /** Whether the worker had a newer content than the one that it has sent. A loss is no excuse. @throws Violation */
  #isNewest(key: string, file: number, unit: number, content: number, sentAt: number): void {
    // A read-modify-write may find what a server has brought back from before a loss.
    const mayReadOld = (this.profile.blockSizes?.minimum ?? UNIT) > UNIT;
    if (mayReadOld || content === OTHER_CONTENT || this.lies) return;
    const newer = this.checkers[file].newerThan(unit, content, sentAt);
    if (newer !== undefined)
      throw new Violation(
        'older bytes sent',
        `${key} brings older bytes to offset ${unit * UNIT}, although ${newer.name} was acknowledged before it was sent`,
      );
  }

  #changedOther({ key }: ServerCommand, { c, file }: SimulatedConnection): void {
    if (this.#mayMistake(file)) {
      this.#isMistaken = true;
      return;
    }
    throw new Violation(
      'other disk',
      `connection ${c}: ${key} is carried out on another disk`,
      key.split(' ')[0],
    );
  }

  /** The worker has accepted a connection. */
  #isAccepted(file: number, connection: SimulatedConnection | undefined): void {
    this.failed.delete(file);
    if (connection === undefined || connection.isFirst) return;
    const isBlind = !this.isKnown(file) && !this.mayLose(file);
    if (isBlind) this.#blind.add(file);
    this.coverage.count(isBlind ? 'another disk, not known' : 'another disk, taken for the first');
  }

  /** The worker mistakes the first disk for another one. @throws Violation */
  #isRefused(file: number): void {
    this.refused.add(file);
    // The server has failed to read every block that could be a sample.
    const isUnreadable = this.profile.faults.has('errors') && !this.isKnown(file);
    if (isUnreadable) this.coverage.count('the first disk is refused, as no block is known');
    else if (this.#dropping.has(file))
      this.coverage.count('the first disk is refused, as it lacks flushed writes');
    else if (!this.lies) throw new Violation('other disk', 'the first disk is taken for another one');
  }

  #countAttachment(file: number): number {
    const count = (this.#attached.get(file) ?? 0) + 1;
    this.#attached.set(file, count);
    return count;
  }

  #fail(file: number): void {
    this.failed.add(file);
    this.syncErrors[file].isAway(true, this.#events);
    this.checkers[file]?.givesUp();
    this.#send('fail', file, EIO);
  }

  #unmount(): void {
    for (const request of this.kernel.pending.values()) this.#end(request, 'failed');
    this.kernel.pending.clear();
    this.kernel.unmount();
  }

  readonly #send: Send<ToWorker> = sender((call) => {
    this.#calls.push(call as Call<ToWorker>);
  });

  /** The worker's calls that the simulated main thread answers. */
  readonly #main: Partial<FromWorker> = {
    ready: () => {
      this.ready = true;
    },
    connectionAccepted: (file, slot) => {
      this.#lastTurns.set(file, this.#events);
      this.syncErrors[file].isAway(this.stopSent, ++this.#events);
      this.#isAccepted(file, this.slots.find((one) => one.file === file && one.slot === slot)?.connection);
    },
    connectionLost: (file, connection, why, { otherDisk }) => {
      this.#lastTurns.set(file, this.#events);
      this.note(() => `  worker: connection slot ${connection} lost: ${why}`);
      this.#countLoss(file, why);
      const slot = this.slots.find((one) => one.file === file && one.slot === connection);
      const wasFirst = slot?.connection?.isFirst === true;
      if (slot !== undefined) slot.connection = undefined;
      const isLast = this.slots.every((one) => one.file !== file || one.connection === undefined);
      if (!otherDisk) return;
      if (isLast) this.#fail(file);
      if (wasFirst) this.#isRefused(file);
      else this.coverage.count('another disk is refused');
    },
    detail: () => undefined,
    passedThrough: () => undefined,
    warning: (text) => {
      this.note(() => `  worker: ${text}`);
      const file = this.checkers.findIndex((_, i) => text.startsWith(`${nameOf(i)}: `));
      if (file < 0 || !text.includes('may be lost')) return;
      this.syncErrors[file].raised(text, ++this.#events);
      // Not every server that fails a FLUSH drops writes.
      if (!text.includes('failed to flush')) this.checkers[file].loses(this.checkers[file].atRisk);
    },
    syncWanted: (file) => {
      this.syncWanted.add(file);
    },
    stopped: (outcome) => {
      this.outcome = outcome;
      this.note(() => `  worker: stopped, ${outcome.unwrittenBytes} bytes unwritten ${outcome.reason}`);
    },
  };

  /** Counts losses of connections that come in rare moments. */
  #countLoss(file: number, why: string): void {
    if (this.isReplaying(file)) this.coverage.count('loss: during a replay');
    const last = this.#lastLosses.get(file);
    if (last !== undefined) this.coverage.count('loss: before an fsync has covered the last loss');
    if (this.stopSent) this.coverage.count('loss: while the worker stops');
    if (why.includes('unreachable')) this.coverage.count('loss: the server is unreachable');
    this.#lastLosses.set(file, this.now);
  }

  #hear(call: Call<FromWorker>): void {
    const [name] = call;
    this.coverage.count(`worker: ${name}`);
    if (name in this.#main) deliver<FromWorker>(call, this.#main);
  }

  #makeWorld(): World {
    const poll = new SimulatedPoll(
      (descriptor) => this.#eventsOf(descriptor),
      (set, timeout) => this.#waits(set, timeout),
    );
    return {
      system: {
        device: this.kernel,
        clock: { now: () => this.now },
        wallClock: { now: () => START_OF_DAY + this.now },
        kernelRelease: KERNEL_RELEASE,
        patienceOf: (pid) => this.kernel.patienceOf(pid),
        yieldProcessor: () => undefined,
        memory: {
          allocate: takeArea,
          allocateBuffer: (bytes) => new ArrayBuffer(bytes),
          preferHugePages: () => undefined,
          discardPages: (address, length) => {
            for (const connection of this.server.connections) connection.unshare(address, length);
            return discardPages(address, length);
          },
        },
      },
      poll,
      openChannel: ({ descriptor }) => {
        const found = this.server.connections.find((one) => one.descriptor === descriptor);
        if (found !== undefined) return found;
        throw new Error(`there is no connection ${descriptor}`);
      },
      openKept: () => ({ most: 1, unitOf: () => 0, read: () => -1, close: () => undefined }),
      takeCalls: (take) => {
        for (const call of this.#calls.splice(0)) {
          if (call[0] === 'stop') this.#stopDeadline = this.now + call[1];
          take(call);
        }
      },
      send: sender((call) => this.#hear(call as Call<FromWorker>)),
    };
  }

  #eventsOf(descriptor: number): number {
    if (descriptor === DEVICE) return this.kernel.readable ? 1 : 0;
    if (descriptor === WAKE) return this.#calls.length > 0 ? 1 : 0;
    return this.server.connections.find((one) => one.descriptor === descriptor)?.events ?? 0;
  }

  /** The worker, which has just had a turn, must stop within its time. @throws Violation */
  #endsInTime(): void {
    if (this.now < this.#stopDeadline) return;
    this.#overdueSince ??= this.now;
    if (this.now - this.#overdueSince > STOP_SLACK)
      throw new Violation(
        'late stop',
        `the worker still runs ${this.now - this.#stopDeadline} ms after its deadline`,
      );
  }

  /** The worker waits: takes steps until one of them lets it run, with something to do. */
  #waits(poll: SimulatedPoll, timeout: number): void {
    this.seeStates();
    for (const { error, connection } of this.#readNow.splice(0))
      if (connection.client === 'closed') error.isKnown = false;
    this.#endsInTime();
    const deadline = timeout < 0 ? Number.POSITIVE_INFINITY : this.now + timeout;
    for (;;) {
      const action = this.#source.next(this);
      if (action === undefined || ++this.#tries > MOST_TRIES)
        throw new Violation('no reply', 'the history does not come to its end');
      if (this.apply(action) && action.do === 'run' && (this.now >= deadline || poll.look() > 0)) return;
    }
  }
}
