// The transmission flags of a disk. Pure.

import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_ROTATIONAL,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../nbd/constants.js';
import type { DiskProperties } from '../contract/disk.js';

/** `NBD_FLAG_*` of a disk, or-ed. @param structured whether structured replies are negotiated */
export function exportFlags(disk: DiskProperties, structured: boolean): number {
  const canChange = !disk.readOnly;
  const flags: readonly (readonly [boolean, number])[] = [
    [disk.readOnly, NBD_FLAG_READ_ONLY],
    [disk.canFlush, NBD_FLAG_SEND_FLUSH],
    [canChange && disk.canFua, NBD_FLAG_SEND_FUA],
    [disk.isRotational, NBD_FLAG_ROTATIONAL],
    [canChange && disk.canTrim, NBD_FLAG_SEND_TRIM],
    [canChange && disk.canZero, NBD_FLAG_SEND_WRITE_ZEROES],
    [canChange && disk.canZero && disk.canFastZero, NBD_FLAG_SEND_FAST_ZERO],
    [structured, NBD_FLAG_SEND_DF],
    [disk.canMultiConn, NBD_FLAG_CAN_MULTI_CONN],
  ];
  return flags.reduce(
    (sum, [isSet, flag]) => (isSet ? sum | flag : sum),
    NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_CACHE,
  );
}
