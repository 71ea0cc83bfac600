// The messages of option haggling: the client's options and the server's replies to them.
//
// Called by the handshake with whole messages. Pure. Lengths are computed from finished bodies; every
// length that a server names is checked against what has arrived and against the limits below.

import { NBD_MAX_STRING, NBD_OPTION_MAGIC, NBD_OPTION_REPLY_MAGIC } from '../constants.js';
import { LINUX, NbdError, NbdProtocolError } from '../errors.js';
import type { MetaContext } from '../export-info.js';
import { optionName } from '../names.js';
import { printable } from '../text.js';
import { concat, nameBytes, nameFrom, u16, u32, u64, utf8, WireReader } from '../wire.js';

/** Bytes of a reply's header (proto.md, "Fixed newstyle negotiation"). */
export const OPTION_REPLY_HEADER = 20;

/** Bytes that one reply may carry: the longest known one has two strings of 4096. */
export const MAX_OPTION_REPLY = 65_536;

/** Metadata contexts that may be asked for, and that a server may select. */
export const MAX_META_CONTEXTS = 1024;

const REPLY_ERROR_BIT = 0x80000000;

/** The header of a reply to an option. */
export interface OptionReplyHeader {
  readonly option: number;
  readonly replyType: number;
  /** Bytes of data that follow, 0 to MAX_OPTION_REPLY. */
  readonly length: number;
}

/** Whether a reply type is one of the errors. */
export function isReplyError(replyType: number): boolean {
  return (replyType & REPLY_ERROR_BIT) !== 0;
}

/** One option with its data, ready to be sent. */
export function encodeOption(option: number, data: Uint8Array): Uint8Array {
  return concat(u64(NBD_OPTION_MAGIC), u32(option), u32(data.length), data);
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export function encodeExportRequest(exportName: string, informationRequests: readonly number[]): Uint8Array {
  const name = nameBytes(exportName);
  return concat(u32(name.length), name, u16(informationRequests.length), ...informationRequests.map(u16));
}

/** The data of NBD_OPT_SET_META_CONTEXT. */
export function encodeMetaContextRequest(exportName: string, queries: readonly string[]): Uint8Array {
  const name = nameBytes(exportName);
  const encodedQueries = queries.map((query) => {
    const text = utf8(query);
    return concat(u32(text.length), text);
  });
  return concat(u32(name.length), name, u32(queries.length), ...encodedQueries);
}

/**
 * Reads a reply's header.
 * @throws NbdProtocolError when the magic is wrong, the reply is to another option than the one in
 * flight, or its length is beyond every limit
 */
export function decodeOptionReplyHeader(bytes: Uint8Array, inFlight: number): OptionReplyHeader {
  const reader = new WireReader(bytes, 'the header of a reply to an option');
  const magic = reader.u64();
  if (magic !== NBD_OPTION_REPLY_MAGIC) {
    throw new NbdProtocolError(
      `a reply to ${optionName(inFlight)} begins with magic 0x${magic.toString(16)}`,
    );
  }
  const option = reader.u32();
  const replyType = reader.u32();
  const length = reader.u32();
  if (option !== inFlight) {
    throw new NbdProtocolError(
      `a reply to ${optionName(option)} came while ${optionName(inFlight)} was in flight`,
    );
  }
  if (length > MAX_OPTION_REPLY) {
    throw new NbdProtocolError(
      `a reply to ${optionName(option)} announces ${length} bytes, more than ${MAX_OPTION_REPLY}`,
    );
  }
  return { option, replyType, length };
}

/** @throws NbdProtocolError when a string is longer than it may be, or holds a NUL */
function checkString(bytes: Uint8Array, what: string): void {
  if (bytes.length > NBD_MAX_STRING) {
    throw new NbdProtocolError(
      `${what} has ${bytes.length} bytes; a string may have ${NBD_MAX_STRING} (proto.md, "Conventions")`,
    );
  }
  if (bytes.includes(0)) throw new NbdProtocolError(`${what} contains a NUL (proto.md, "Conventions")`);
}

/**
 * A string of the server's that people read. What is no UTF-8 becomes U+FFFD: a strange text must not hide
 * the rest of a list.
 * @throws NbdProtocolError when it is longer than a string may be, or holds a NUL
 */
export function decodeString(bytes: Uint8Array, what: string): string {
  checkString(bytes, what);
  return new TextDecoder().decode(bytes);
}

/** An entry of NBD_OPT_LIST, from the data of its NBD_REP_SERVER. */
export function decodeServerReply(data: Uint8Array): { name: string; description: string | undefined } {
  const reader = new WireReader(data, 'an NBD_REP_SERVER reply');
  const bytes = reader.bytes(reader.u32());
  checkString(bytes, 'the name of a listed export');
  // A name is for asking for the export: it must come out as it came in, even if it is no UTF-8.
  const name = nameFrom(bytes);
  const description = decodeString(reader.rest(), 'the description of a listed export');
  return { name, description: description === '' ? undefined : description };
}

/** A selected metadata context, from the data of its NBD_REP_META_CONTEXT. */
export function decodeMetaContext(data: Uint8Array): MetaContext {
  const reader = new WireReader(data, 'an NBD_REP_META_CONTEXT reply');
  const id = reader.u32();
  const name = decodeString(reader.rest(), 'the name of a metadata context');
  return { id, name };
}

/**
 * Refuses a name that cannot be sent.
 * @throws NbdError with EINVAL when it holds a NUL, is neither Unicode text nor from `nameFrom`, or is longer
 * than 4096 bytes
 */
export function checkExportName(name: string): void {
  const shown = printable(name, 80);
  if (name.includes('\0'))
    throw new NbdError(`the export name "${shown}" contains a NUL`, { errno: LINUX.EINVAL });
  if (/[\ud800-\udc7f\udd00-\udfff]/u.test(name)) {
    throw new NbdError(`the export name "${shown}" is not Unicode text`, { errno: LINUX.EINVAL });
  }
  const { length } = nameBytes(name);
  if (length > NBD_MAX_STRING) {
    throw new NbdError(
      `the export name "${shown}" has ${length} bytes; at most ${NBD_MAX_STRING} can be sent`,
      {
        errno: LINUX.EINVAL,
      },
    );
  }
}

/**
 * Refuses queries that no server may be asked (proto.md, "Metadata querying").
 * @throws NbdError with EINVAL when there are too many, or one lacks its namespace or is too long
 */
export function checkMetaContextQueries(queries: readonly string[]): void {
  if (queries.length > MAX_META_CONTEXTS) {
    throw new NbdError(
      `cannot request ${queries.length} metadata contexts: the maximum is ${MAX_META_CONTEXTS}`,
      {
        errno: LINUX.EINVAL,
      },
    );
  }
  for (const query of queries) {
    const wellFormed = /^[^\s:\p{C}]+:[^\0\p{Cs}]*$/u.test(query);
    if (!wellFormed || utf8(query).length > NBD_MAX_STRING) {
      throw new NbdError(
        `the metadata context "${printable(query, 80)}" is not of the form namespace:leaf-name`,
        {
          errno: LINUX.EINVAL,
        },
      );
    }
  }
}
