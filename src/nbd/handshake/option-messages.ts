// Encodes options and decodes replies to them. Pure.
//
// Works on whole messages. Every length from the server is checked against the received bytes and the limits below.

import { NBD_MAX_STRING, NBD_OPTION_MAGIC, NBD_OPTION_REPLY_MAGIC } from '../constants.js';
import { NbdArgumentError, NbdProtocolError } from '../errors.js';
import type { MetaContext } from '../export-info.js';
import { optionName } from '../names.js';
import { printable } from '../text.js';
import { concat, nameBytes, nameFrom, u16, u32, u64, utf8, WireReader } from '../wire.js';

/** Length of a reply header in bytes (proto.md, "Fixed newstyle negotiation"). */
export const OPTION_REPLY_HEADER = 20;

/** Most data of one reply in bytes: the longest known one has two strings of 4096. */
export const MAX_OPTION_REPLY = 65_536;

/** Most metadata contexts of a request, and of the server's selection. */
export const MAX_META_CONTEXTS = 1024;

const REPLY_ERROR_BIT = 0x80000000;

/** The header of a reply to an option. */
export interface OptionReplyHeader {
  readonly option: number;
  readonly replyType: number;
  /** Bytes of data after the header, 0 to MAX_OPTION_REPLY. */
  readonly length: number;
}

/** Whether a reply type is an error. */
export function isReplyError(replyType: number): boolean {
  return (replyType & REPLY_ERROR_BIT) !== 0;
}

/** Encodes an option with its data. */
export function encodeOption(option: number, data: Uint8Array): Uint8Array {
  return concat(u64(NBD_OPTION_MAGIC), u32(option), u32(data.length), data);
}

/** Encodes the data of NBD_OPT_INFO and NBD_OPT_GO. */
export function encodeExportRequest(exportName: string, informationRequests: readonly number[]): Uint8Array {
  const name = nameBytes(exportName);
  return concat(u32(name.length), name, u16(informationRequests.length), ...informationRequests.map(u16));
}

/** Encodes the data of NBD_OPT_SET_META_CONTEXT. */
export function encodeMetaContextRequest(exportName: string, queries: readonly string[]): Uint8Array {
  const name = nameBytes(exportName);
  const encodedQueries = queries.map((query) => {
    const text = utf8(query);
    return concat(u32(text.length), text);
  });
  return concat(u32(name.length), name, u32(queries.length), ...encodedQueries);
}

/**
 * Decodes a reply header.
 * @throws NbdProtocolError if the magic is wrong, the reply belongs to another option than `inFlight`, or the length
 *   exceeds MAX_OPTION_REPLY
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

/** @throws NbdProtocolError if a string is too long or contains a NUL */
function checkString(bytes: Uint8Array, what: string): void {
  if (bytes.length > NBD_MAX_STRING) {
    throw new NbdProtocolError(
      `${what} has ${bytes.length} bytes; a string may have ${NBD_MAX_STRING} (proto.md, "Conventions")`,
    );
  }
  if (bytes.includes(0)) throw new NbdProtocolError(`${what} contains a NUL (proto.md, "Conventions")`);
}

/**
 * Decodes a string for display. Invalid UTF-8 becomes U+FFFD: one bad text must not spoil a list.
 * @throws NbdProtocolError if it is too long or contains a NUL
 */
export function decodeString(bytes: Uint8Array, what: string): string {
  checkString(bytes, what);
  return new TextDecoder().decode(bytes);
}

/**
 * Decodes the name of an export, which keeps its bytes, even invalid UTF-8, for a request of this export.
 * @throws NbdProtocolError if it is too long or contains a NUL
 */
export function decodeName(bytes: Uint8Array, what: string): string {
  checkString(bytes, what);
  return nameFrom(bytes);
}

/** Decodes the data of an NBD_REP_SERVER: an entry of NBD_OPT_LIST. */
export function decodeServerReply(data: Uint8Array): { name: string; description: string | undefined } {
  const reader = new WireReader(data, 'an NBD_REP_SERVER reply');
  const name = decodeName(reader.bytes(reader.u32()), 'the name of a listed export');
  const description = decodeString(reader.rest(), 'the description of a listed export');
  return { name, description: description === '' ? undefined : description };
}

/** Decodes the data of an NBD_REP_META_CONTEXT: a selected metadata context. */
export function decodeMetaContext(data: Uint8Array): MetaContext {
  const reader = new WireReader(data, 'an NBD_REP_META_CONTEXT reply');
  const id = reader.u32();
  const name = decodeString(reader.rest(), 'the name of a metadata context');
  return { id, name };
}

/**
 * Checks that a name can be sent.
 * @throws NbdArgumentError if it contains a NUL, is neither Unicode text nor from `nameFrom`, or is longer than
 *   4096 bytes
 */
export function checkExportName(name: string): void {
  const shown = printable(name, 80);
  if (name.includes('\0')) throw new NbdArgumentError(`the export name "${shown}" contains a NUL`);
  if (/[\ud800-\udc7f\udd00-\udfff]/u.test(name)) {
    throw new NbdArgumentError(`the export name "${shown}" is not Unicode text`);
  }
  const { length } = nameBytes(name);
  if (length > NBD_MAX_STRING) {
    throw new NbdArgumentError(
      `the export name "${shown}" has ${length} bytes; at most ${NBD_MAX_STRING} can be sent`,
    );
  }
}

/**
 * Checks metadata context queries (proto.md, "Metadata querying").
 * @throws NbdArgumentError if there are too many, or one lacks a namespace or is too long
 */
export function checkMetaContextQueries(queries: readonly string[]): void {
  if (queries.length > MAX_META_CONTEXTS) {
    throw new NbdArgumentError(
      `cannot request ${queries.length} metadata contexts: the maximum is ${MAX_META_CONTEXTS}`,
    );
  }
  for (const query of queries) {
    const wellFormed = /^[^\s:\p{C}]+:[^\0\p{Cs}]*$/u.test(query);
    if (!wellFormed || utf8(query).length > NBD_MAX_STRING) {
      throw new NbdArgumentError(
        `the metadata context "${printable(query, 80)}" is not of the form namespace:leaf-name`,
      );
    }
  }
}
