// The parts of a disk that are files of their own: the partitions of --partitions.
//
// The dispatcher turns each request for a part into one for the same bytes of the disk, in the device's buffer, before
// it passes it on. So all files of a disk have one order of ranges, in offsets of the disk: see invariants.md.

import { ENOSPC } from '../../constants/errno.js';
import {
  FALLOC_FL_ZERO_RANGE,
  FUSE_FALLOCATE,
  FUSE_READ,
  FUSE_WRITE,
  FUSE_WRITE_CACHE,
  FUSE_WRITE_KILL_SUIDGID,
} from '../../fuse/constants.js';
import {
  FALLOCATE_LENGTH,
  FALLOCATE_MODE,
  FALLOCATE_OFFSET,
  HOST_ENDIAN,
  IN_UID,
  IO_OFFSET_HI,
  IO_OFFSET_LO,
  IO_SIZE,
  WRITE_FLAGS,
} from '../../fuse/layout.js';
import { killSetId, type Node, touchNode } from '../../fuse/tree.js';
import type { PartDescription } from '../contract/messages.js';
import type { Disk } from '../disk/disk.js';
import { highHalf, lowHalf, toBigInt } from '../memory/u64.js';

/** A file that shows a part of a disk. */
export class DiskPart {
  readonly disk: Disk;
  readonly node: Node;
  readonly description: PartDescription;
  /** The bytes [start, end) of the disk. */
  readonly start: bigint;
  readonly end: bigint;
  /** See Disk.parts. */
  holes = 0n;

  constructor(disk: Disk, node: Node, description: PartDescription) {
    this.disk = disk;
    this.node = node;
    this.description = description;
    this.start = description.offset;
    this.end = description.offset + description.size;
  }

  /**
   * Turns the request in a view into one for the disk, cut at the end of the part. Other requests than READ, WRITE and
   * FALLOCATE stay as they are. Returns the errno of a request that fails, or 0. @param now milliseconds since 1970
   */
  translate(opcode: number, view: DataView, now: number): number {
    if (opcode === FUSE_READ) this.#moveTransfer(view);
    else if (opcode === FUSE_WRITE) return this.#translateWrite(view, now);
    else if (opcode === FUSE_FALLOCATE) return this.#translateFallocate(view);
    return 0;
  }

  #translateWrite(view: DataView, now: number): number {
    const requested = view.getUint32(IO_SIZE, HOST_ENDIAN);
    const flags = view.getUint32(WRITE_FLAGS, HOST_ENDIAN);
    const count = this.#moveTransfer(view);
    const isCached = (flags & FUSE_WRITE_CACHE) !== 0;
    if (count < requested && (count === 0 || isCached)) return ENOSPC;
    if ((flags & FUSE_WRITE_KILL_SUIDGID) !== 0) killSetId(this.node);
    touchNode(this.node, now);
    return 0;
  }

  /** Moves a READ or WRITE. Returns its bytes. */
  #moveTransfer(view: DataView): number {
    const offset = toBigInt(
      view.getUint32(IO_OFFSET_HI, HOST_ENDIAN),
      view.getUint32(IO_OFFSET_LO, HOST_ENDIAN),
    );
    const requested = BigInt(view.getUint32(IO_SIZE, HOST_ENDIAN));
    const { start, count } = this.#placeOf(offset, requested);
    view.setUint32(IO_OFFSET_HI, highHalf(start), HOST_ENDIAN);
    view.setUint32(IO_OFFSET_LO, lowHalf(start), HOST_ENDIAN);
    view.setUint32(IO_SIZE, Number(count), HOST_ENDIAN);
    return Number(count);
  }

  #translateFallocate(view: DataView): number {
    const length = view.getBigUint64(FALLOCATE_LENGTH, HOST_ENDIAN);
    const { start, count } = this.#placeOf(view.getBigUint64(FALLOCATE_OFFSET, HOST_ENDIAN), length);
    if (count < length && view.getUint32(FALLOCATE_MODE, HOST_ENDIAN) === FALLOC_FL_ZERO_RANGE) return ENOSPC;
    view.setBigUint64(FALLOCATE_OFFSET, start, HOST_ENDIAN);
    view.setBigUint64(FALLOCATE_LENGTH, count, HOST_ENDIAN);
    if (view.getUint32(IN_UID, HOST_ENDIAN) !== 0) killSetId(this.node);
    return 0;
  }

  /** The place on the disk of bytes of the part. */
  #placeOf(offset: bigint, length: bigint): { readonly start: bigint; readonly count: bigint } {
    const size = this.end - this.start;
    if (offset >= size) return { start: this.end, count: 0n };
    const left = size - offset;
    return { start: this.start + offset, count: length < left ? length : left };
  }
}
