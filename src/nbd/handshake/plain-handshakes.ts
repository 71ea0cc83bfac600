// The parts of the handshake from before option haggling: oldstyle, NBD_OPT_EXPORT_NAME, the flags.
//
// Called by the handshake with whole messages. Pure.

import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
} from '../constants.js';
import { NbdProtocolError } from '../errors.js';
import { DISCONNECT, encodeRequest, REQUEST_LENGTH } from '../transmission/request.js';
import { WireReader } from '../wire.js';

/** Zero bytes that end an oldstyle greeting, and a reply to NBD_OPT_EXPORT_NAME. */
const RESERVED_ZEROES = 124;

/** Bytes of an oldstyle greeting after its two magics. */
export const OLDSTYLE_LENGTH = 8 + 4 + RESERVED_ZEROES;

/** Size and transmission flags of an export, as the server sent them. */
export interface PlainExport {
  readonly size: bigint;
  readonly flags: number;
}

/** Reads an oldstyle greeting; throws NbdProtocolError when its flags are not those of an export. */
export function decodeOldstyle(bytes: Uint8Array): PlainExport {
  const reader = new WireReader(bytes, 'an oldstyle greeting');
  const size = reader.u64();
  const flags = reader.u32();
  if (flags > 0xffff) {
    const hex = flags.toString(16);
    throw new NbdProtocolError(
      `an oldstyle server sent handshake flags (0x${hex}; proto.md, "Handshake flags")`,
    );
  }
  return { size, flags };
}

/** Reads a reply to NBD_OPT_EXPORT_NAME. */
export function decodeExportNameReply(bytes: Uint8Array): PlainExport {
  const reader = new WireReader(bytes, 'the reply to NBD_OPT_EXPORT_NAME');
  return { size: reader.u64(), flags: reader.u16() };
}

/** What a newstyle server's handshake flags mean for this connection. */
export interface NewstyleTerms {
  readonly fixed: boolean;
  /** What to answer: each flag mirrors one of the server's, and unknown ones are ignored. */
  readonly clientFlags: number;
  /** Bytes of a reply to NBD_OPT_EXPORT_NAME. */
  readonly exportNameReplyLength: number;
}

/** Reads a newstyle server's handshake flags. */
export function decodeHandshakeFlags(bytes: Uint8Array): NewstyleTerms {
  const flags = new WireReader(bytes, 'handshake flags').u16();
  const fixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  const noZeroes = (flags & NBD_FLAG_NO_ZEROES) !== 0;
  return {
    fixed,
    clientFlags: (fixed ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0),
    exportNameReplyLength: 8 + 2 + (noZeroes ? 0 : RESERVED_ZEROES),
  };
}

/** NBD_CMD_DISC: the goodbye to a server that has gone into the transmission phase unasked. */
export function encodeDisconnect(): Uint8Array {
  const bytes = new Uint8Array(REQUEST_LENGTH);
  encodeRequest(new DataView(bytes.buffer), 0, false, DISCONNECT);
  return bytes;
}
