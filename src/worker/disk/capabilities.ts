// What the protocol allows with an export: its flags as questions that are asked often. Pure.

import { NBD_FLAG_SEND_FLUSH, NBD_FLAG_SEND_FUA, NBD_FLAG_SEND_WRITE_ZEROES } from '../../nbd/constants.js';
import { type ExportInfo, hasFlag } from '../../nbd/export-info.js';

/** See the file's head. */
export interface Capabilities {
  readonly flush: boolean;
  readonly fua: boolean;
  readonly zero: boolean;
  /** Tells holes from data: `base:allocation` was agreed on. */
  readonly allocation: boolean;
}

/** The abilities of an export. */
export function capabilitiesOf(info: ExportInfo): Capabilities {
  return {
    flush: hasFlag(info, NBD_FLAG_SEND_FLUSH),
    fua: hasFlag(info, NBD_FLAG_SEND_FUA),
    zero: hasFlag(info, NBD_FLAG_SEND_WRITE_ZEROES),
    allocation: info.metaContexts.some(({ name }) => name === 'base:allocation'),
  };
}
