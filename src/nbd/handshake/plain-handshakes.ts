// Decodes the messages from before the negotiation of options: oldstyle greeting, handshake flags,
// NBD_OPT_EXPORT_NAME. Pure; works on whole messages.

import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
} from '../constants.js';
import { NbdProtocolError } from '../errors.js';
import { DISCONNECT, encodeRequest, REQUEST_LENGTH } from '../transmission/request.js';
import { WireReader } from '../wire.js';

/** Zero bytes at the end of an oldstyle greeting and of a reply to NBD_OPT_EXPORT_NAME. */
const RESERVED_ZEROES = 124;

/** Length in bytes of an oldstyle greeting after its two magics. */
export const OLDSTYLE_LENGTH = 8 + 4 + RESERVED_ZEROES;

/** Size and transmission flags of an export. */
export interface PlainExport {
  readonly size: bigint;
  readonly flags: number;
}

/** Decodes an oldstyle greeting. @throws NbdProtocolError if it has handshake flags */
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

/** Decodes a reply to NBD_OPT_EXPORT_NAME. */
export function decodeExportNameReply(bytes: Uint8Array): PlainExport {
  const reader = new WireReader(bytes, 'the reply to NBD_OPT_EXPORT_NAME');
  return { size: reader.u64(), flags: reader.u16() };
}

/** The meaning of a newstyle server's handshake flags. */
export interface NewstyleTerms {
  readonly fixed: boolean;
  /** Client flags for the reply: each mirrors a flag of the server; unknown ones are ignored. */
  readonly clientFlags: number;
  /** Length in bytes of a reply to NBD_OPT_EXPORT_NAME. */
  readonly exportNameReplyLength: number;
}

/** Decodes a newstyle server's handshake flags. */
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

/** Encodes NBD_CMD_DISC, for a server that entered the transmission phase although no export is needed. */
export function encodeDisconnect(): Uint8Array {
  const bytes = new Uint8Array(REQUEST_LENGTH);
  encodeRequest(new DataView(bytes.buffer), 0, false, DISCONNECT);
  return bytes;
}
