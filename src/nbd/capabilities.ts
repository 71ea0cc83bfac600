// The commands and flags that an export allows, for the worker and the Promise client. Pure.
//
// A client sends no command and no flag of which the capability is false. The fields are booleans for the hot path.

import * as c from './constants.js';
import { type ExportInfo, hasFlag } from './export-info.js';

/** See the file's head. */
export interface Capabilities {
  /** Whether every change fails. */
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly trim: boolean;
  readonly zero: boolean;
  readonly fastZero: boolean;
  readonly df: boolean;
  readonly cache: boolean;
  /** Whether several connections are consistent with each other. A client opens only one otherwise. */
  readonly multiConn: boolean;
  /** Whether the storage rotates. */
  readonly rotational: boolean;
  /** Whether a metadata context was negotiated, so that BLOCK_STATUS is allowed. */
  readonly blockStatus: boolean;
  /** Whether `base:allocation` was negotiated, which tells holes from data. */
  readonly allocation: boolean;
  /** Whether a BLOCK_STATUS may name its contexts in a payload. */
  readonly statusPayload: boolean;
}

/** The capabilities of an export. */
export function capabilitiesOf(info: Pick<ExportInfo, 'flags' | 'metaContexts'>): Capabilities {
  return {
    readOnly: hasFlag(info, c.NBD_FLAG_READ_ONLY),
    flush: hasFlag(info, c.NBD_FLAG_SEND_FLUSH),
    fua: hasFlag(info, c.NBD_FLAG_SEND_FUA),
    trim: hasFlag(info, c.NBD_FLAG_SEND_TRIM),
    zero: hasFlag(info, c.NBD_FLAG_SEND_WRITE_ZEROES),
    fastZero: hasFlag(info, c.NBD_FLAG_SEND_FAST_ZERO),
    df: hasFlag(info, c.NBD_FLAG_SEND_DF),
    cache: hasFlag(info, c.NBD_FLAG_SEND_CACHE),
    multiConn: hasFlag(info, c.NBD_FLAG_CAN_MULTI_CONN),
    rotational: hasFlag(info, c.NBD_FLAG_ROTATIONAL),
    blockStatus: info.metaContexts.length > 0,
    allocation: info.metaContexts.some(({ name }) => name === 'base:allocation'),
    statusPayload: hasFlag(info, c.NBD_FLAG_BLOCK_STATUS_PAYLOAD),
  };
}

/** The flags of a change that must be durable at its reply. */
export function durableFlags({ fua }: Pick<Capabilities, 'fua'>): number {
  return fua ? c.NBD_CMD_FLAG_FUA : 0;
}

/** Whether a FLUSH must follow the replies to a change that must be durable: the server has FLUSH, but no FUA. */
export function needsFlush({ fua, flush }: Pick<Capabilities, 'fua' | 'flush'>): boolean {
  return !fua && flush;
}
