// Decodes the data of a client's options, and encodes the replies. Pure.
//
// Works on whole options. A field that is not well formed throws NbdProtocolError, which the handshake turns into
// NBD_REP_ERR_INVALID.

import { NBD_MAX_STRING, NBD_OPTION_REPLY_MAGIC } from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import { concat, u32, u64, WireReader } from '../../nbd/wire.js';

function readString(reader: WireReader): Uint8Array {
  const length = reader.u32();
  if (length > NBD_MAX_STRING) throw new NbdProtocolError(`a string has ${length} bytes`);
  return reader.bytes(length);
}

function checkEnd(reader: WireReader): void {
  if (reader.rest().length > 0) throw new NbdProtocolError('the option has bytes after its last field');
}

/** The requested `NBD_INFO_*` of NBD_OPT_INFO or NBD_OPT_GO. @throws NbdProtocolError if it is not well formed */
export function decodeExportQuery(data: Uint8Array): readonly number[] {
  const reader = new WireReader(data, 'the option');
  // The name.
  readString(reader);
  const count = reader.u16();
  const wanted: number[] = [];
  for (let i = 0; i < count; i++) wanted.push(reader.u16());
  checkEnd(reader);
  return wanted;
}

/**
 * The queries of NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT.
 * @throws NbdProtocolError if it is not well formed
 */
export function decodeContextQuery(data: Uint8Array): readonly string[] {
  const reader = new WireReader(data, 'the option');
  // The name of the export.
  readString(reader);
  const count = reader.u32();
  const queries: string[] = [];
  // A count that is too large ends at the end of the data.
  for (let i = 0; i < count; i++) queries.push(new TextDecoder().decode(readString(reader)));
  checkEnd(reader);
  return queries;
}

/** A reply to an option. */
export function optionReply(option: number, type: number, ...data: readonly Uint8Array[]): Uint8Array {
  const length = data.reduce((sum, { length }) => sum + length, 0);
  return concat(u64(NBD_OPTION_REPLY_MAGIC), u32(option), u32(type), u32(length), ...data);
}
