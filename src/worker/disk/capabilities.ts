// The commands and flags that the protocol allows with an export, as booleans for the hot path. Pure.

import { NBD_FLAG_SEND_FLUSH, NBD_FLAG_SEND_FUA, NBD_FLAG_SEND_WRITE_ZEROES } from '../../nbd/constants.js';
import { type ExportInfo, hasFlag } from '../../nbd/export-info.js';

/** See the file's head. */
export interface Capabilities {
  readonly flush: boolean;
  readonly fua: boolean;
  readonly zero: boolean;
  /** Whether `base:allocation` was negotiated, which tells holes from data. */
  readonly allocation: boolean;
}

/** The capabilities of an export. */
export function capabilitiesOf(info: ExportInfo): Capabilities {
  return {
    flush: hasFlag(info, NBD_FLAG_SEND_FLUSH),
    fua: hasFlag(info, NBD_FLAG_SEND_FUA),
    zero: hasFlag(info, NBD_FLAG_SEND_WRITE_ZEROES),
    allocation: info.metaContexts.some(({ name }) => name === 'base:allocation'),
  };
}
