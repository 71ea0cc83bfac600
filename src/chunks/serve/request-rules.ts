// Which requests a disk may see. Pure.
//
// The errors are those of proto.md: a change of a read-only disk NBD_EPERM, a WRITE beyond the end NBD_ENOSPC, all other
// requests that are not valid NBD_EINVAL.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
} from '../../nbd/constants.js';
import type { DiskProperties } from '../contract/disk.js';
import type { Terms } from './handshake.js';
import type { ClientRequest } from './request-receiver.js';

const CHANGES: readonly number[] = [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES];

/** The commands that the client may send. */
function isKnown(type: number, disk: DiskProperties, terms: Terms): boolean {
  switch (type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
    case NBD_CMD_CACHE:
      return true;
    case NBD_CMD_FLUSH:
      return disk.canFlush;
    case NBD_CMD_TRIM:
      return disk.canTrim;
    case NBD_CMD_WRITE_ZEROES:
      return disk.canZero;
    case NBD_CMD_BLOCK_STATUS:
      return terms.allocation !== undefined;
    default:
      return false;
  }
}

/** The flags that a command may have. */
function knownFlags(type: number, disk: DiskProperties, terms: Terms): number {
  // FUA is valid with every command (proto.md, "Command flags").
  const fua = disk.canFua ? NBD_CMD_FLAG_FUA : 0;
  switch (type) {
    case NBD_CMD_READ:
      return fua | (terms.structured ? NBD_CMD_FLAG_DF : 0);
    case NBD_CMD_WRITE_ZEROES:
      return fua | NBD_CMD_FLAG_NO_HOLE | (disk.canFastZero ? NBD_CMD_FLAG_FAST_ZERO : 0);
    case NBD_CMD_BLOCK_STATUS:
      return fua | NBD_CMD_FLAG_REQ_ONE;
    default:
      return fua;
  }
}

/** The error of a range that does not lie on the disk, or is not made of its blocks; else 0. */
function rangeError({ type, offset, length }: ClientRequest, disk: DiskProperties): number {
  const { minimum, maximum } = disk.blockSizes;
  if (type === NBD_CMD_FLUSH) return offset === 0 && length === 0 ? 0 : NBD_EINVAL;
  const hasPayload = type === NBD_CMD_READ || type === NBD_CMD_WRITE;
  if (hasPayload && length > maximum) return NBD_EINVAL;
  if (length > disk.size - offset)
    return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
  if (type === NBD_CMD_BLOCK_STATUS && length === 0) return NBD_EINVAL;
  // The last block of a disk may be shorter.
  const isWhole = length % minimum === 0 || offset + length === disk.size;
  return offset % minimum === 0 && isWhole ? 0 : NBD_EINVAL;
}

/** The `NBD_E*` of a request that the disk must not see; 0: it may. */
export function requestError(request: ClientRequest, disk: DiskProperties, terms: Terms): number {
  const { type, flags } = request;
  if (disk.readOnly && CHANGES.includes(type)) return NBD_EPERM;
  if (!isKnown(type, disk, terms)) return NBD_EINVAL;
  if ((flags & ~knownFlags(type, disk, terms)) !== 0) return NBD_EINVAL;
  return rangeError(request, disk);
}
