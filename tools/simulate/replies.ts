// The bytes of a server's replies, for the negotiated kind of headers.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
  NBD_STRUCTURED_REPLY_MAGIC,
} from '../../src/nbd/constants.js';
import type { ExportInfo } from '../../src/nbd/export-info.js';
import type { ServerCommand } from './connection.js';
import { bytesOf, UNIT } from './units.js';

/** Maximum number of extents in one BLOCK_STATUS reply. */
const MOST_EXTENTS = 5;

function simpleReply(command: ServerCommand, data: Uint8Array | undefined): Buffer {
  const made = Buffer.alloc(16 + (data?.length ?? 0));
  made.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, 0);
  made.writeUInt32BE(command.error, 4);
  made.writeUInt32BE(command.cookieHi, 8);
  made.writeUInt32BE(command.cookieLo, 12);
  if (data !== undefined) made.set(data, 16);
  return made;
}

function chunk(
  command: ServerCommand,
  extended: boolean,
  type: number,
  isLast: boolean,
  body: Uint8Array,
): Buffer {
  const header = extended ? 32 : 20;
  const made = Buffer.alloc(header + body.length);
  made.writeUInt32BE(extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC, 0);
  made.writeUInt16BE(isLast ? NBD_REPLY_FLAG_DONE : 0, 4);
  made.writeUInt16BE(type, 6);
  made.writeUInt32BE(command.cookieHi, 8);
  made.writeUInt32BE(command.cookieLo, 12);
  if (extended) {
    made.writeBigUInt64BE(BigInt(command.offset), 16);
    made.writeBigUInt64BE(BigInt(body.length), 24);
  } else made.writeUInt32BE(body.length, 16);
  made.set(body, header);
  return made;
}

function dataChunks(command: ServerCommand, found: Uint32Array, extended: boolean, pieces: number): Buffer[] {
  const first = command.offset / UNIT;
  const each = Math.ceil(found.length / pieces);
  const chunks: Buffer[] = [];
  for (let at = 0; at < found.length; at += each) {
    const count = Math.min(each, found.length - at);
    const isLast = at + count === found.length;
    const isHole = pieces > 1 && found.subarray(at, at + count).every((content) => content === 0);
    const body = Buffer.alloc(isHole ? 12 : 8 + count * UNIT);
    body.writeBigUInt64BE(BigInt(command.offset + at * UNIT), 0);
    if (isHole) body.writeUInt32BE(count * UNIT, 8);
    else
      body.set(
        bytesOf(first + at, count, (unit) => found[unit - first]),
        8,
      );
    const type = isHole ? NBD_REPLY_TYPE_OFFSET_HOLE : NBD_REPLY_TYPE_OFFSET_DATA;
    chunks.push(chunk(command, extended, type, isLast, body));
  }
  return chunks;
}

function extentsOf(found: Uint32Array): { length: number; flags: number }[] {
  const extents: { length: number; flags: number }[] = [];
  for (let at = 0; at < found.length; ) {
    const isZero = found[at] === 0;
    let end = at + 1;
    while (end < found.length && (found[end] === 0) === isZero) end++;
    if (extents.length === MOST_EXTENTS) break;
    extents.push({ length: (end - at) * UNIT, flags: isZero ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0 });
    at = end;
  }
  return extents;
}

function statusChunk(command: ServerCommand, found: Uint32Array, context: number, extended: boolean): Buffer {
  const extents = extentsOf(found);
  if (!extended) {
    const body = Buffer.alloc(4 + extents.length * 8);
    body.writeUInt32BE(context, 0);
    extents.forEach(({ length, flags }, i) => {
      body.writeUInt32BE(length, 4 + i * 8);
      body.writeUInt32BE(flags, 8 + i * 8);
    });
    return chunk(command, false, NBD_REPLY_TYPE_BLOCK_STATUS, true, body);
  }
  const body = Buffer.alloc(8 + extents.length * 16);
  body.writeUInt32BE(context, 0);
  body.writeUInt32BE(extents.length, 4);
  extents.forEach(({ length, flags }, i) => {
    body.writeBigUInt64BE(BigInt(length), 8 + i * 16);
    body.writeBigUInt64BE(BigInt(flags), 16 + i * 16);
  });
  return chunk(command, true, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, true, body);
}

/** The whole reply to a command; that of a READ has up to so many chunks. */
export function replyBytes(command: ServerCommand, info: ExportInfo, pieces: number): Buffer {
  const { extendedHeaders: extended, structuredReplies: structured } = info;
  const found = command.error === 0 ? command.found : undefined;
  if (!structured) {
    const first = command.offset / UNIT;
    return simpleReply(
      command,
      found === undefined ? undefined : bytesOf(first, found.length, (unit) => found[unit - first]),
    );
  }
  if (command.error !== 0) {
    const body = Buffer.alloc(6);
    body.writeUInt32BE(command.error, 0);
    return chunk(command, extended, NBD_REPLY_TYPE_ERROR, true, body);
  }
  if (found !== undefined && command.type === NBD_CMD_READ)
    return Buffer.concat(dataChunks(command, found, extended, pieces));
  if (found !== undefined && command.type === NBD_CMD_BLOCK_STATUS)
    return statusChunk(command, found, info.metaContexts[0].id, extended);
  return chunk(command, extended, NBD_REPLY_TYPE_NONE, true, new Uint8Array(0));
}
