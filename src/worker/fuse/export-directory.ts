// The directory of --all: handles the requests that need an answer of the main thread first.
//
// The dispatcher offers it each request before it handles the request itself. The main thread lists the exports, and
// connects a file that a program opens; a file that has been closed for a while loses its connections. Nothing blocks:
// a request that must wait is parked, and the main thread limits the time.

import { EINTR, ESTALE } from '../../constants/errno.js';
import {
  FUSE_LOOKUP,
  FUSE_OPEN,
  FUSE_OPENDIR,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_ROOT_ID,
} from '../../fuse/constants.js';
import { HOST_ENDIAN, IN_PID, IO_OFFSET_LO, IO_SIZE, OPEN_FLAGS } from '../../fuse/layout.js';
import type { Node } from '../../fuse/tree.js';
import type { Send } from '../contract/call.js';
import type { DirectoryEvents, ListChange } from '../contract/messages.js';
import type { Requester } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { toBigInt } from '../memory/u64.js';
import type { Engine } from '../request/engine.js';
import { FIRST_STATUS_TIME } from './block-counts.js';
import type { FileEntry, Files } from './files.js';
import { LOOKUP_NAME, type Metadata, nameIn } from './metadata.js';
import { type ParkedRequest, ParkedRequests } from './parked-requests.js';

/** Milliseconds from a file's last close to the end of its connections. */
const IDLE_TIME = 30_000;
/** Maximum number of connected files that no program has open. */
const MOST_IDLE = 64;
/** Milliseconds between two searches for idle files. */
const IDLE_PERIOD = 1000;

const LIST = 'list';
const keyOfOpen = (file: number): string => `open ${file}`;
const keyOfDescription = (file: number): string => `describe ${file}`;

/** See the file's head. */
export class ExportDirectory {
  readonly #files: Files;
  readonly #metadata: Metadata;
  readonly #engine: Engine;
  readonly #send: Send<DirectoryEvents>;
  readonly #parked: ParkedRequests;
  /** Newly connected files, and the time until which open(2) waits for their first BLOCK_STATUS. */
  readonly #arriving = new Map<Disk, number>();
  readonly #idleSince = new Map<Disk, number>();
  #sweptAt = 0;

  constructor(files: Files, metadata: Metadata, engine: Engine, send: Send<DirectoryEvents>) {
    this.#files = files;
    this.#metadata = metadata;
    this.#engine = engine;
    this.#parked = new ParkedRequests(engine.system);
    this.#send = send;
  }

  /** Parks a request that needs an answer of the main thread first. False: dispatch answers it at once. */
  takes(opcode: number, nodeid: number, view: DataView, length: number, requester: Requester): boolean {
    const { descriptor, uniqueLo, uniqueHi } = requester;
    const who = { descriptor, uniqueLo, uniqueHi, pid: view.getUint32(IN_PID, HOST_ENDIAN) };
    const startedAt = this.#engine.now();
    const ask = (resume: ParkedRequest['resume']): ParkedRequest => ({
      ...who,
      resume,
      answered: (errno) => {
        const unique = toBigInt(uniqueHi, uniqueLo);
        this.#engine.trace?.request({ unique, opcode, node: nodeid, name: undefined, startedAt }, errno);
      },
    });
    switch (opcode) {
      case FUSE_LOOKUP: {
        if (nodeid !== FUSE_ROOT_ID) return false;
        const name = nameIn(new Uint8Array(view.buffer, view.byteOffset), LOOKUP_NAME, length);
        return this.#lookup(name, ask);
      }
      case FUSE_OPENDIR:
        this.#awaitList(ask((one) => this.#metadata.opendir(one)));
        return true;
      case FUSE_READDIR:
      case FUSE_READDIRPLUS: {
        if (view.getUint32(IO_OFFSET_LO, HOST_ENDIAN) !== 0) return false;
        const size = view.getUint32(IO_SIZE, HOST_ENDIAN);
        const plus = opcode === FUSE_READDIRPLUS;
        this.#awaitList(ask((one) => this.#metadata.readdir(0, size, plus, one)));
        return true;
      }
      case FUSE_OPEN: {
        const flags = view.getUint32(OPEN_FLAGS, HOST_ENDIAN);
        return this.#open(
          nodeid,
          flags,
          ask((one) => this.#metadata.open(nodeid, flags, who.pid, one)),
        );
      }
      default:
        return false;
    }
  }

  /** The main thread has a new list, or failed to get one. */
  listed({ added, removed }: ListChange): void {
    for (const number of removed) this.#files.remove(number);
    for (const { number, file } of added) this.#files.add(number, file);
    if (added.length + removed.length > 0) this.#files.tree.touch(this.#engine.system.wallClock.now());
    for (const number of removed) {
      this.#parked.release(keyOfDescription(number));
      // The kernel then looks the name up again.
      if (this.#files.entry(number) === undefined)
        this.#parked.release(keyOfOpen(number), this.#refusal(ESTALE));
    }
    this.#parked.release(LIST);
  }

  /** The main thread has the description of a file, or (`errno`) failed to get it. */
  described(number: number, errno: number): void {
    this.#parked.release(keyOfDescription(number), errno === 0 ? undefined : this.#refusal(errno));
  }

  /** Opening a file has failed. */
  refused(number: number, errno: number): void {
    this.#parked.release(keyOfOpen(number), this.#refusal(errno));
  }

  /** Whether a file may get a connection: it has one, or an open(2) waits for one. */
  wants(number: number): boolean {
    return this.#files.entry(number)?.disk !== undefined || this.#parked.has(keyOfOpen(number));
  }

  /** A file has got its first connection. */
  arrived(disk: Disk): void {
    this.#arriving.set(disk, this.#engine.now() + FIRST_STATUS_TIME);
  }

  /** Answers the parked request with this number if a signal is ending its task. */
  interrupt(uniqueLo: number, uniqueHi: number): void {
    const one = this.#parked.interrupt(uniqueLo, uniqueHi);
    if (one !== undefined) this.#refuse(one, EINTR);
  }

  /** Whether a request is parked. */
  get hasParked(): boolean {
    return this.#parked.any;
  }

  /** Answers the parked requests whose tasks a signal is ending. */
  freeRequesters(): void {
    for (const one of this.#parked.abandoned()) this.#refuse(one, EINTR);
  }

  /** Milliseconds until the next due call of `look`, or -1. */
  get patience(): number {
    if (this.#arriving.size > 0) return FIRST_STATUS_TIME;
    return this.#files.disks.some((disk) => disk.opens === 0) ? IDLE_PERIOD : -1;
  }

  /** Called once a turn. Returns the disks that no longer need their connections. */
  look(now: number): readonly Disk[] {
    for (const [disk, until] of this.#arriving) {
      if (disk.can.allocation && !disk.hasLookedForHoles && now < until) continue;
      this.#arriving.delete(disk);
      this.#parked.release(keyOfOpen(disk.index));
    }
    if (now - this.#sweptAt < IDLE_PERIOD) return [];
    this.#sweptAt = now;
    return this.#idle(now).filter((disk) => this.#isDone(disk));
  }

  /** The disk has closed its connections. */
  retired(disk: Disk): void {
    this.#idleSince.delete(disk);
    this.#files.retire(disk);
    this.#send('idle', disk.index);
  }

  /** The disks that have been idle for long enough, or exceed the limit. */
  #idle(now: number): readonly Disk[] {
    for (const disk of this.#files.disks) {
      const isUsed = disk.opens > 0 || this.#arriving.has(disk) || this.#parked.has(keyOfOpen(disk.index));
      if (isUsed) this.#idleSince.delete(disk);
      else if (!this.#idleSince.has(disk)) this.#idleSince.set(disk, now);
    }
    // In the order in which they became idle.
    const tooMany = this.#idleSince.size - MOST_IDLE;
    return [...this.#idleSince]
      .filter(([disk, since], i) => now - since >= IDLE_TIME || i < tooMany || !this.#isShown(disk))
      .map(([disk]) => disk);
  }

  #isShown(disk: Disk): boolean {
    return this.#files.tree.isShown(disk.node);
  }

  /** Whether a disk has no work left. Flushes it if only that is missing. */
  #isDone(disk: Disk): boolean {
    if (this.#engine.requests.uses(disk) || disk.lost.any || disk.closing.length > 0) return false;
    // Without connections, unflushed writes wait for the server: they are sent again when it is back.
    if (disk.connections.length === 0) return disk.unflushed.empty;
    if (disk.connections.some(({ inFlight }) => inFlight > 0)) return false;
    if (!disk.can.flush || (!disk.dirty && disk.unflushed.empty)) return true;
    this.#engine.flushInTheBackground(disk);
    return false;
  }

  #lookup(name: string, ask: (resume: ParkedRequest['resume']) => ParkedRequest): boolean {
    const node = this.#files.tree.lookup(name);
    if (node?.known) return false;
    const answer = ask((one) => this.#metadata.lookup(FUSE_ROOT_ID, name, one));
    if (node !== undefined) this.#awaitDescription(node, answer);
    else {
      const resume = (one: Requester): number | undefined => {
        const found = this.#files.tree.lookup(name);
        if (found === undefined || found.known) return answer.resume(one);
        this.#awaitDescription(found, answer);
        return undefined;
      };
      this.#awaitList({ ...answer, resume });
    }
    return true;
  }

  #open(nodeid: number, flags: number, request: ParkedRequest): boolean {
    const entry = this.#files.entryOf(nodeid);
    if (entry === undefined) {
      // The kernel may cache a name for longer than its file exists.
      this.#refuse(request, ESTALE);
      return true;
    }
    if (this.#isConnected(entry) || this.#files.tree.open(entry.node, flags) !== 0) return false;
    const isFirst = this.#parked.park(keyOfOpen(entry.number), request);
    if (isFirst && entry.disk === undefined) this.#send('connectionWanted', entry.number);
    return true;
  }

  /** Whether a file is in use. A file whose connections are lost is: reconnecting is under way. */
  #isConnected({ disk }: FileEntry): boolean {
    return disk !== undefined && !this.#arriving.has(disk);
  }

  #awaitList(request: ParkedRequest): void {
    if (this.#parked.park(LIST, request)) this.#send('listWanted');
  }

  #awaitDescription({ nodeid }: Node, request: ParkedRequest): void {
    const number = this.#files.entryOf(nodeid)?.number ?? -1;
    const isFirst = this.#parked.park(keyOfDescription(number), request);
    if (isFirst) this.#send('descriptionWanted', number);
  }

  #refuse(request: ParkedRequest, errno: number): void {
    request.answered(this.#refusal(errno)(request));
  }

  #refusal(errno: number): (requester: Requester) => number {
    return (requester) => {
      this.#engine.device.replyError(errno, requester);
      return errno;
    };
  }
}
