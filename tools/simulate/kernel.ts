// The simulated kernel: a queue of FUSE requests for the device, and their replies.
//
// Implements the worker's calls on /dev/fuse.

import { EAGAIN, ENODEV, EPERM } from '../../src/constants/errno.js';
import { O_DIRECT, O_DSYNC, O_RDWR } from '../../src/constants/open-flags.js';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  FUSE_FALLOCATE,
  FUSE_FSYNC,
  FUSE_GETATTR,
  FUSE_GETATTR_FH,
  FUSE_INIT,
  FUSE_INTERRUPT,
  FUSE_LSEEK,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_OPEN,
  FUSE_READ,
  FUSE_RELEASE,
  FUSE_WRITE,
  FUSE_WRITE_CACHE,
  SEEK_DATA,
  SEEK_HOLE,
} from '../../src/fuse/constants.js';
import { IN_HEADER, OUT_HEADER } from '../../src/fuse/layout.js';
import { PATIENCE } from '../../src/worker/device/signals.js';
import type { DeviceCalls } from '../../src/worker/device/system.js';
import type { RequestAction } from './actions.js';
import type { Change } from './checker.js';
import { setErrno } from './errno.js';
import { peek, poke } from './memory.js';
import { bytesOf, UNIT } from './units.js';
import { Violation } from './violation.js';

/** The node of the first file: behind the directory. */
const FIRST_NODE = 2;

const OPCODES: Readonly<Record<RequestAction['do'], number>> = {
  write: FUSE_WRITE,
  read: FUSE_READ,
  fsync: FUSE_FSYNC,
  punch: FUSE_FALLOCATE,
  zero: FUSE_FALLOCATE,
  'seek data': FUSE_LSEEK,
  'seek hole': FUSE_LSEEK,
  open: FUSE_OPEN,
  release: FUSE_RELEASE,
  stat: FUSE_GETATTR,
  'stat by handle': FUSE_GETATTR,
};

/** Number of the first OPEN of the handles that are open from the start. */
const FIRST_HANDLE = 1_000_001;

/** The OPENs of a file at the start of a history. */
export function firstOpens(file: number): RequestAction[] {
  return [0, 1].map((i) => ({
    do: 'open',
    id: FIRST_HANDLE + file * 2 + i,
    file,
    offset: 0,
    length: 0,
    direct: false,
    sync: false,
    hidden: false,
  }));
}

/** The pid of the requester of a request. */
export const pidOf = (id: number): number => 1_000_000 + id;

/** A request of the kernel. */
export interface KernelRequest {
  readonly action: RequestAction;
  readonly begin: number;
  readonly change: Change | undefined;
  /** Whether the worker has read it. */
  taken: boolean;
}

type Queued = { readonly message: Buffer; readonly request: KernelRequest | undefined };

function message(opcode: number, unique: number, node: number, pid: number, body: number): Buffer {
  const made = Buffer.alloc(IN_HEADER + body);
  made.writeUInt32LE(made.length, 0);
  made.writeUInt32LE(opcode, 4);
  made.writeUInt32LE(unique, 8);
  made.writeUInt32LE(node, 16);
  made.writeUInt32LE(pid, 32);
  return made;
}

/** The kernel's FUSE_INIT. */
function initMessage(): Buffer {
  const made = message(FUSE_INIT, 1, 0, 0, 64);
  made.writeUInt32LE(7, IN_HEADER);
  made.writeUInt32LE(38, IN_HEADER + 4);
  made.writeUInt32LE(131_072, IN_HEADER + 8);
  made.writeUInt32LE(0x73ff_ffff, IN_HEADER + 12);
  return made;
}

/** The node of each file that shows a part of its disk: the bytes [start, end). The nodes follow those of the files. */
export interface SimulatedParts {
  readonly files: number;
  readonly start: number;
  readonly end: number;
}

/** The requests that a part can take: an LSEEK of a part would find other bytes. */
const FOR_PARTS: readonly RequestAction['do'][] = ['write', 'read', 'fsync', 'punch', 'zero'];

/** One of this many requests goes through the part, if its bytes are in it. */
const PART_EVERY = 3;

/** The node of a request and its offset there. */
function placeOf({ do: kind, id, file, offset, length }: RequestAction, parts: SimulatedParts) {
  const isInside = kind === 'fsync' || (offset >= parts.start && offset + length <= parts.end);
  if (id % PART_EVERY !== 0 || !FOR_PARTS.includes(kind) || !isInside)
    return { node: FIRST_NODE + file, offset };
  return { node: FIRST_NODE + parts.files + file, offset: kind === 'fsync' ? offset : offset - parts.start };
}

/** @param fh the file handle, or 0 */
function requestMessage(action: RequestAction, fh: bigint, parts: SimulatedParts): Buffer {
  const { do: kind, id, length, direct, sync, hidden } = action;
  const { node, offset } = placeOf(action, parts);
  const size =
    kind === 'write' ? 40 + length : kind === 'read' ? 40 : kind === 'punch' || kind === 'zero' ? 32 : 24;
  const made = message(OPCODES[kind], id * 2, node, hidden ? 0 : pidOf(id), size);
  const at = IN_HEADER;
  if (kind !== 'open') made.writeBigUInt64LE(fh, at);
  if (kind === 'open') made.writeUInt32LE(O_RDWR | (direct ? O_DIRECT : 0), at);
  else if (kind === 'stat by handle') made.writeUInt32LE(FUSE_GETATTR_FH, at);
  else if (kind === 'release') made.writeUInt32LE(O_RDWR, at + 8);
  else if (kind !== 'fsync') made.writeBigUInt64LE(BigInt(offset), at + 8);
  if (kind === 'read' || kind === 'write') {
    made.writeUInt32LE(length, at + 16);
    made.writeUInt32LE((direct ? O_DIRECT : 0) | (sync ? O_DSYNC : 0), at + 32);
  }
  if (kind === 'write') {
    made.writeUInt32LE(direct ? 0 : FUSE_WRITE_CACHE, at + 20);
    made.set(
      bytesOf(action.offset / UNIT, length / UNIT, () => id),
      at + 40,
    );
  } else if (kind === 'punch' || kind === 'zero') {
    made.writeBigUInt64LE(BigInt(length), at + 16);
    const mode = kind === 'punch' ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    made.writeUInt32LE(mode | FALLOC_FL_KEEP_SIZE, at + 24);
  } else if (kind === 'seek data' || kind === 'seek hole') {
    made.writeUInt32LE(kind === 'seek data' ? SEEK_DATA : SEEK_HOLE, at + 16);
  }
  return made;
}

/** See the file's head. */
export class SimulatedKernel implements DeviceCalls {
  /** Requests without a reply, by their numbers. */
  readonly pending = new Map<number, KernelRequest>();
  /** Whether FUSE_INIT was answered. */
  ready = false;
  gone = false;
  readonly #queue: Queued[] = [{ message: initMessage(), request: undefined }];
  readonly #answered: (request: KernelRequest, error: number, body: Uint8Array) => void;
  readonly #signals = new Map<number, boolean>();
  /** The worker's file handles, by the numbers of their OPENs. */
  readonly #handles = new Map<number, bigint>();

  readonly #parts: SimulatedParts;

  constructor(
    parts: SimulatedParts,
    answered: (request: KernelRequest, error: number, body: Uint8Array) => void,
  ) {
    this.#parts = parts;
    this.#answered = answered;
  }

  /** Whether the device is readable. */
  get readable(): boolean {
    return this.gone || this.#queue.length > 0;
  }

  /** Whether a request is possible: its handle is open, and nothing uses a handle that is closed. */
  mayAsk({ do: kind, handle }: RequestAction): boolean {
    if (handle === undefined) return true;
    const isUsed = [...this.pending.values()].some((one) => one.action.handle === handle);
    return this.#handles.has(handle) && !(kind === 'release' && isUsed);
  }

  ask(action: RequestAction, begin: number, change: Change | undefined): void {
    const request: KernelRequest = { action, begin, change, taken: false };
    const { id, do: kind, handle = 0 } = action;
    this.pending.set(id, request);
    this.#queue.push({
      message: requestMessage(action, this.#handles.get(handle) ?? 0n, this.#parts),
      request,
    });
    if (kind === 'release') this.#handles.delete(handle);
  }

  /**
   * The requester of a request gets a signal. Returns the request if the kernel takes it back, because the
   * worker has not read it yet.
   * @param interrupts the kernel sends FUSE_INTERRUPT
   */
  signal(request: KernelRequest, deadly: boolean, interrupts: boolean): KernelRequest | undefined {
    const { action } = request;
    const pid = pidOf(action.id);
    this.#signals.set(pid, deadly || this.#signals.get(pid) === true);
    // The kernel reports no interrupt of requests through the page cache.
    const isCached = (action.do === 'read' || action.do === 'write') && !action.direct;
    if (!interrupts || isCached) return undefined;
    if (request.taken) {
      const made = message(FUSE_INTERRUPT, action.id * 2 + 1, 0, 0, 8);
      made.writeUInt32LE(action.id * 2, IN_HEADER);
      this.#queue.push({ message: made, request: undefined });
      return undefined;
    }
    // The kernel keeps waiting unless the signal is deadly.
    if (!deadly) return undefined;
    this.#queue.splice(
      this.#queue.findIndex((one) => one.request === request),
      1,
    );
    this.pending.delete(action.id);
    return request;
  }

  patienceOf(pid: number): number | undefined {
    if (pid === 0) return undefined;
    return this.#signals.get(pid) === true ? PATIENCE.ending : PATIENCE.none;
  }

  /** No file is given to the kernel: the mounts of the simulation are writable. */
  ioctl(): number {
    return setErrno(EPERM);
  }

  read(_descriptor: number, address: number, length: number): number {
    if (this.gone) return setErrno(ENODEV);
    const next = this.#queue.shift();
    if (next === undefined) return setErrno(EAGAIN);
    if (next.message.length > length)
      throw new Violation('crash', 'the worker reads requests into too little memory');
    if (next.request !== undefined) next.request.taken = true;
    poke(address, next.message);
    return next.message.length;
  }

  write(_descriptor: number, address: number, length: number): number {
    if (this.gone) return setErrno(ENODEV);
    const bytes = peek(address, length);
    const view = new DataView(bytes.buffer, bytes.byteOffset, length);
    const unique = view.getUint32(8, true);
    const error = -view.getInt32(4, true);
    if (view.getUint32(0, true) !== length)
      throw new Violation('replies', `the reply to ${unique} miscounts itself`);
    if (unique === 0 && -error === FUSE_NOTIFY_INVAL_INODE) return length;
    if (error < 0 || error > 4095)
      throw new Violation('replies', `the reply to ${unique} has the error ${error}`);
    if (unique === 1) {
      this.ready = true;
      return length;
    }
    const id = unique / 2;
    const request = this.pending.get(id);
    if (request === undefined) throw new Violation('replies', `a reply to #${id}, which waits for none`);
    if (!request.taken) throw new Violation('replies', `a reply to #${id}, which was not read`);
    this.pending.delete(id);
    this.#signals.delete(pidOf(id));
    if (request.action.do === 'open' && error === 0)
      this.#handles.set(id, view.getBigUint64(OUT_HEADER, true));
    this.#answered(request, error, bytes.slice(OUT_HEADER));
    return length;
  }

  close(): number {
    return 0;
  }

  /** The file system is unmounted: queued requests are dropped. */
  unmount(): void {
    this.gone = true;
    this.#queue.length = 0;
  }
}
