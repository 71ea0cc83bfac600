// Encodes replies of the transmission phase, as parts to send one after another. Pure; copies no data.

import {
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
  NBD_STRUCTURED_REPLY_MAGIC,
} from '../../nbd/constants.js';
import type { AllocationExtent } from '../contract/disk.js';
import { clippedText } from './handshake.js';
import type { ClientRequest } from './request-receiver.js';

/** Bytes of the headers. */
const SIMPLE = 16;
const CHUNK = 20;
/** Maximum bytes of the text of an error. */
const MAX_TEXT = 512;

/** Bytes of all parts. */
export function lengthOf(parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (let i = 0; i < parts.length; i++) sum += parts[i].length;
  return sum;
}

function simpleReply({ cookieHi, cookieLo }: ClientRequest, error: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(SIMPLE);
  bytes.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(error, 4);
  bytes.writeUInt32BE(cookieHi, 8);
  bytes.writeUInt32BE(cookieLo, 12);
  return bytes;
}

/**
 * The only chunk of a structured reply.
 * @param fields bytes of its fields, which the caller writes from byte CHUNK on
 * @param data bytes of the data that the caller sends after it
 */
function onlyChunk(request: ClientRequest, type: number, fields: number, data = 0): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK + fields);
  bytes.writeUInt32BE(NBD_STRUCTURED_REPLY_MAGIC, 0);
  bytes.writeUInt16BE(NBD_REPLY_FLAG_DONE, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeUInt32BE(request.cookieHi, 8);
  bytes.writeUInt32BE(request.cookieLo, 12);
  bytes.writeUInt32BE(fields + data, 16);
  return bytes;
}

/** Success without data. */
export function doneReply(request: ClientRequest, structured: boolean): Uint8Array {
  return structured ? onlyChunk(request, NBD_REPLY_TYPE_NONE, 0) : simpleReply(request, 0);
}

/** Failure. @param error `NBD_E*` @param text for a person; only structured replies carry it */
export function errorReply(
  request: ClientRequest,
  structured: boolean,
  error: number,
  text: string,
): Uint8Array {
  if (!structured) return simpleReply(request, error);
  const encoded = clippedText(text, MAX_TEXT);
  const bytes = onlyChunk(request, NBD_REPLY_TYPE_ERROR, 6 + encoded.length);
  bytes.writeUInt32BE(error, CHUNK);
  bytes.writeUInt16BE(encoded.length, CHUNK + 4);
  bytes.set(encoded, CHUNK + 6);
  return bytes;
}

/** The head of all data of a READ. The data follow; they are never in fragments, so that DF changes nothing. */
export function dataHead(request: ClientRequest, structured: boolean): Uint8Array {
  if (!structured) return simpleReply(request, 0);
  const bytes = onlyChunk(request, NBD_REPLY_TYPE_OFFSET_DATA, 8, request.length);
  const high = Math.floor(request.offset / 2 ** 32);
  bytes.writeUInt32BE(high, CHUNK);
  bytes.writeUInt32BE(request.offset - high * 2 ** 32, CHUNK + 4);
  return bytes;
}

/** The extents of `base:allocation`. @param context its id */
export function statusReply(
  request: ClientRequest,
  context: number,
  extents: readonly AllocationExtent[],
): Uint8Array {
  const bytes = onlyChunk(request, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * extents.length);
  bytes.writeUInt32BE(context, CHUNK);
  extents.forEach(({ length, hole, zero }, i) => {
    bytes.writeUInt32BE(length, CHUNK + 4 + 8 * i);
    bytes.writeUInt32BE((hole ? NBD_STATE_HOLE : 0) | (zero ? NBD_STATE_ZERO : 0), CHUNK + 8 + 8 * i);
  });
  return bytes;
}
