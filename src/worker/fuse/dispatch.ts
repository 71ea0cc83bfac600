// Passes each request of the kernel, by its opcode, to the code that answers it.
//
// Called by the loop for the request in the device's buffer.

import { EIO, ENOSYS, EPERM, ESTALE } from '../../constants/errno.js';
import {
  FUSE_ACCESS,
  FUSE_BATCH_FORGET,
  FUSE_CREATE,
  FUSE_DESTROY,
  FUSE_FALLOCATE,
  FUSE_FORGET,
  FUSE_FSYNC,
  FUSE_FSYNCDIR,
  FUSE_GETATTR,
  FUSE_GETATTR_FH,
  FUSE_GETXATTR,
  FUSE_HANDLE_KILLPRIV_V2,
  FUSE_INIT,
  FUSE_INTERRUPT,
  FUSE_LINK,
  FUSE_LISTXATTR,
  FUSE_LOOKUP,
  FUSE_LSEEK,
  FUSE_MKDIR,
  FUSE_MKNOD,
  FUSE_OPEN,
  FUSE_OPENDIR,
  FUSE_READ,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_RELEASE,
  FUSE_RELEASEDIR,
  FUSE_RENAME,
  FUSE_RENAME2,
  FUSE_RMDIR,
  FUSE_SETATTR,
  FUSE_STATFS,
  FUSE_SYMLINK,
  FUSE_TMPFILE,
  FUSE_UNLINK,
  FUSE_WRITE,
} from '../../fuse/constants.js';
import { type InitOptions, initObjection, readInit, writeInitReply } from '../../fuse/init.js';
import {
  GETATTR_FLAGS,
  GETXATTR_NAME,
  HOST_ENDIAN,
  IN_NODEID_LO,
  IN_OPCODE,
  IN_PID,
  IN_UNIQUE_HI,
  IN_UNIQUE_LO,
  INTERRUPT_UNIQUE_HI,
  INTERRUPT_UNIQUE_LO,
  IO_OFFSET_LO,
  IO_SIZE,
  OPEN_FLAGS,
} from '../../fuse/layout.js';
import type { Status } from '../contract/status.js';
import type { Requester } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { toBigInt } from '../memory/u64.js';
import type { Engine } from '../request/engine.js';
import { startFsync } from '../request/flush.js';
import { type ReadPlaces, startRead } from '../request/read.js';
import { startLseek } from '../request/seek.js';
import { startWrite } from '../request/write.js';
import { startFallocate } from '../request/zero.js';
import type { BlockCounts } from './block-counts.js';
import type { DiskPart } from './disk-parts.js';
import type { ExportDirectory } from './export-directory.js';
import { LOOKUP_NAME, type Metadata, nameIn } from './metadata.js';
import type { Passthrough } from './passthrough.js';
import { ExtendedAttributes } from './xattr.js';

/** Forwards FUSE_INTERRUPT to the read threads, one of which may have the request. */
export interface InterruptForwarder {
  interrupt(uniqueHi: number, uniqueLo: number): void;
}

/** The receivers of a dispatcher's requests. */
export interface DispatchTargets extends ReadPlaces {
  readonly engine: Engine;
  readonly metadata: Metadata;
  /** The disk behind each file's nodeid. */
  readonly disks: ReadonlyMap<number, Disk>;
  /** The files of these that are only a part of their disk. */
  readonly parts: ReadonlyMap<number, DiskPart>;
  /** The features to request in FUSE_INIT. */
  readonly init: Omit<InitOptions, 'passthrough'>;
  readonly passthrough: Passthrough | undefined;
  /** Takes a GETATTR that must wait for a count of blocks. */
  readonly blockCounts: BlockCounts;
  /** Makes the status of a node; undefined if the node is no file. */
  readonly status: (nodeid: number) => (() => Status) | undefined;
  /** With --all, takes some requests before `metadata`. */
  readonly exportDirectory: ExportDirectory | undefined;
  readonly readThreads: InterruptForwarder | undefined;
}

/** See the file's head. */
export class Dispatcher implements Requester {
  descriptor = -1;
  uniqueLo = 0;
  uniqueHi = 0;
  /** Whether FUSE_INIT is answered. */
  ready = false;
  readonly #engine: Engine;
  readonly #metadata: Metadata;
  readonly #disks: ReadonlyMap<number, Disk>;
  readonly #parts: ReadonlyMap<number, DiskPart>;
  readonly #targets: DispatchTargets;
  readonly #xattr: ExtendedAttributes;
  #hasKillpriv = false;

  constructor(targets: DispatchTargets) {
    this.#targets = targets;
    this.#engine = targets.engine;
    this.#metadata = targets.metadata;
    this.#disks = targets.disks;
    this.#parts = targets.parts;
    this.#xattr = new ExtendedAttributes(targets.engine.device);
  }

  /** Begins the request of `length` bytes in the device's buffer. @throws Error if the kernel is too old */
  dispatch(length: number): void {
    const { device } = this.#engine;
    const { view } = device.buffer;
    const opcode = view.getUint32(IN_OPCODE, HOST_ENDIAN);
    const nodeid = view.getUint32(IN_NODEID_LO, HOST_ENDIAN);
    this.descriptor = device.source;
    this.uniqueLo = view.getUint32(IN_UNIQUE_LO, HOST_ENDIAN);
    this.uniqueHi = view.getUint32(IN_UNIQUE_HI, HOST_ENDIAN);
    if (!this.#data(opcode, nodeid, view)) this.#other(opcode, nodeid, view, length);
  }

  #data(opcode: number, nodeid: number, view: DataView): boolean {
    const disk = this.#disks.get(nodeid);
    if (disk === undefined) return false;
    const part = this.#parts.size === 0 ? undefined : this.#parts.get(nodeid);
    const error = part?.translate(opcode, view, this.#engine.system.wallClock.now()) ?? 0;
    if (error !== 0) {
      this.#error(error);
      return true;
    }
    switch (opcode) {
      case FUSE_READ:
        startRead(this.#engine, this.#targets, disk, view);
        return true;
      case FUSE_WRITE:
        startWrite(this.#engine, this.#targets.prefetched, disk, view);
        return true;
      case FUSE_FSYNC:
        this.#metadata.expire(nodeid);
        startFsync(this.#engine, disk, view);
        return true;
      case FUSE_FALLOCATE:
        startFallocate(this.#engine, this.#targets.prefetched, disk, view);
        return true;
      case FUSE_LSEEK:
        startLseek(this.#engine, disk, view, part ?? disk.whole);
        return true;
      case FUSE_GETATTR:
        return !isByHandle(view) && this.#targets.blockCounts.takes(disk, view);
      default:
        return false;
    }
  }

  #other(opcode: number, nodeid: number, view: DataView, length: number): void {
    const { trace } = this.#engine;
    if (trace === undefined) {
      this.#answer(opcode, nodeid, view, length);
      return;
    }
    const name = this.#nameOf(opcode, length);
    const unique = toBigInt(this.uniqueHi, this.uniqueLo);
    const startedAt = this.#engine.now();
    const error = this.#answer(opcode, nodeid, view, length);
    // A FUSE_INTERRUPT appears in the trace as the line of the request that it ends.
    if (opcode !== FUSE_INTERRUPT) trace.request({ unique, opcode, node: nodeid, name, startedAt }, error);
  }

  /** Returns the errno of the reply; undefined without a reply. @throws Error if the kernel is too old */
  #answer(opcode: number, nodeid: number, view: DataView, length: number): number | undefined {
    switch (opcode) {
      case FUSE_FORGET:
        this.#metadata.forget(nodeid, view);
        return undefined;
      case FUSE_BATCH_FORGET:
        this.#metadata.batchForget(view, length);
        return undefined;
      case FUSE_INTERRUPT:
        this.#interrupt(view);
        return undefined;
      case FUSE_INIT:
        this.#init(view, length);
        return 0;
      default:
        if (this.#targets.exportDirectory?.takes(opcode, nodeid, view, length, this)) return undefined;
        return this.#metadataRequest(opcode, nodeid, view, length);
    }
  }

  /** The name in a request, for the trace. */
  #nameOf(opcode: number, length: number): string | undefined {
    const { bytes } = this.#engine.device.buffer;
    if (opcode === FUSE_LOOKUP) return nameIn(bytes, LOOKUP_NAME, length);
    return opcode === FUSE_GETXATTR ? nameIn(bytes, GETXATTR_NAME, length) : undefined;
  }

  #metadataRequest(opcode: number, nodeid: number, view: DataView, length: number): number {
    const metadata = this.#metadata;
    switch (opcode) {
      case FUSE_LOOKUP:
        return metadata.lookup(nodeid, nameIn(this.#engine.device.buffer.bytes, LOOKUP_NAME, length), this);
      case FUSE_GETATTR:
        return metadata.getattr(nodeid, isByHandle(view), this);
      case FUSE_SETATTR:
        return metadata.setattr(nodeid, view, this);
      case FUSE_OPEN:
        return metadata.open(
          nodeid,
          view.getUint32(OPEN_FLAGS, HOST_ENDIAN),
          view.getUint32(IN_PID, HOST_ENDIAN),
          this,
        );
      case FUSE_OPENDIR:
        return metadata.opendir(this);
      case FUSE_READDIR:
      case FUSE_READDIRPLUS:
        return metadata.readdir(
          view.getUint32(IO_OFFSET_LO, HOST_ENDIAN),
          view.getUint32(IO_SIZE, HOST_ENDIAN),
          opcode === FUSE_READDIRPLUS,
          this,
        );
      case FUSE_ACCESS:
        return metadata.access(nodeid, view, this);
      case FUSE_STATFS:
        return metadata.statfs(this);
      case FUSE_RELEASE:
        return metadata.release(nodeid, view, this);
      case FUSE_RELEASEDIR:
      case FUSE_FSYNCDIR:
      case FUSE_DESTROY:
        return this.#error(0);
      case FUSE_CREATE:
      case FUSE_MKNOD:
      case FUSE_MKDIR:
      case FUSE_SYMLINK:
      case FUSE_LINK:
      case FUSE_UNLINK:
      case FUSE_RMDIR:
      case FUSE_RENAME:
      case FUSE_RENAME2:
      case FUSE_TMPFILE:
        return this.#error(EPERM);
      case FUSE_READ:
      case FUSE_WRITE:
      case FUSE_FSYNC:
      case FUSE_FALLOCATE:
      case FUSE_LSEEK:
        // The file has no disk. Not ENOSYS, after which the kernel sends no FSYNC for any file.
        return this.#error(ESTALE);
      case FUSE_GETXATTR:
      case FUSE_LISTXATTR:
        return this.#attributes(opcode, nodeid, view, length);
      default:
        // This includes FUSE_FLUSH: the kernel writes dirty pages back at close anyway, and only fsync must flush
        // the server's cache.
        return this.#error(ENOSYS);
    }
  }

  #init(view: DataView, length: number): void {
    const request = readInit(view, length);
    const objection = initObjection(request);
    if (objection !== undefined) {
      this.#error(EIO);
      throw new Error(objection);
    }
    const { init, passthrough } = this.#targets;
    const options = { ...init, passthrough: passthrough?.isWanted(request.flags2) ?? false };
    this.#engine.device.replySmall(writeInitReply(this.#engine.device.small, request, options), this);
    this.#hasKillpriv = (request.flags & FUSE_HANDLE_KILLPRIV_V2) !== 0;
    this.ready = true;
  }

  /** Without FUSE_HANDLE_KILLPRIV_V2 the kernel reads an attribute before every write; ENOSYS stops that. */
  #attributes(opcode: number, nodeid: number, view: DataView, length: number): number {
    if (!this.#hasKillpriv) return this.#error(ENOSYS);
    const status = this.#targets.status(nodeid);
    if (opcode === FUSE_LISTXATTR) return this.#xattr.list(status, view, this);
    return this.#xattr.get(status, view, length, this);
  }

  /** Ends a request whose task a signal is ending. The commands of the request continue. */
  #interrupt(view: DataView): void {
    const lo = view.getUint32(INTERRUPT_UNIQUE_LO, HOST_ENDIAN);
    const hi = view.getUint32(INTERRUPT_UNIQUE_HI, HOST_ENDIAN);
    this.#targets.exportDirectory?.interrupt(lo, hi);
    if (!this.#engine.interruptRequest(hi, lo)) this.#targets.readThreads?.interrupt(hi, lo);
  }

  #error(error: number): number {
    this.#engine.device.replyError(error, this);
    return error;
  }
}

function isByHandle(view: DataView): boolean {
  return (view.getUint32(GETATTR_FLAGS, HOST_ENDIAN) & FUSE_GETATTR_FH) !== 0;
}
