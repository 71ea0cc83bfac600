// The rules for reply chunks (proto.md, "Structured reply chunk message", "Structured reply types").
//
// Called by the reply receiver, once a chunk. Pure. Each check throws NbdProtocolError with the violated rule.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from '../constants.js';
import { NbdProtocolError } from '../errors.js';
import { Coverage } from './coverage.js';
import type { PendingRequest } from './reply.js';

/** Bit of the type of every error chunk, unknown ones included. */
const ERROR_BIT = 0x8000;

/** Largest block status chunk in bytes: room for a million extents, nbdkit's own limit. */
const MAX_STATUS_PAYLOAD = 16 * 1024 * 1024 + 8;

/** Longest error message of a server in bytes (proto.md, "Conventions"). */
const MAX_MESSAGE = 4096;

/** Largest error chunk in bytes: the numbers and a message. */
export const MAX_ERROR_PAYLOAD = 6 + MAX_MESSAGE + 8;

/** The unsigned 32-bit number at byte `at`, big-endian. */
export function u32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

/** Whether a chunk type is an error. */
export function isErrorType(type: number): boolean {
  return (type & ERROR_BIT) !== 0;
}

/** Checks that a simple reply may answer a request. @param structured structured replies were negotiated */
export function checkSimpleReply(request: PendingRequest, error: number, structured: boolean): void {
  if (structured && request.type === NBD_CMD_READ) {
    throw new NbdProtocolError('a simple reply answers a READ although structured replies were negotiated');
  }
  if (request.coverage !== undefined || request.covered > 0 || request.failure !== 0) {
    throw new NbdProtocolError('a simple reply follows chunks of the same reply');
  }
  if (request.type === NBD_CMD_BLOCK_STATUS && error === 0) {
    throw new NbdProtocolError('a simple reply without an error answers BLOCK_STATUS');
  }
}

/** Checks the type and the length (bytes) of a chunk before its content is read. */
export function checkChunk(
  request: PendingRequest,
  type: number,
  length: number,
  last: boolean,
  extended: boolean,
): void {
  if (isErrorType(type)) {
    if (length < 6 || length > MAX_ERROR_PAYLOAD)
      throw new NbdProtocolError(`an error chunk has ${length} bytes`);
    return;
  }
  switch (type) {
    case NBD_REPLY_TYPE_NONE:
      if (length !== 0) throw new NbdProtocolError('an NBD_REPLY_TYPE_NONE chunk carries bytes');
      if (!last) throw new NbdProtocolError('an NBD_REPLY_TYPE_NONE chunk is not the last of its reply');
      return;
    case NBD_REPLY_TYPE_OFFSET_DATA:
    case NBD_REPLY_TYPE_OFFSET_HOLE:
      if (request.type !== NBD_CMD_READ) {
        throw new NbdProtocolError('a data chunk answers a request that is not a READ');
      }
      if (type === NBD_REPLY_TYPE_OFFSET_HOLE ? length !== 12 : length < 9 || length - 8 > request.length) {
        throw new NbdProtocolError(`a data chunk has ${length} bytes, but ${request.length} were requested`);
      }
      return;
    case NBD_REPLY_TYPE_BLOCK_STATUS:
      if (extended) throw new NbdProtocolError('a 32-bit block status chunk came with extended headers');
      checkStatus(request, 4, 8, length);
      return;
    case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
      if (!extended) throw new NbdProtocolError('a 64-bit block status chunk came without extended headers');
      checkStatus(request, 8, 16, length);
      return;
    default:
      throw new NbdProtocolError(`a reply chunk has the unknown type ${type}`);
  }
}

function checkStatus(request: PendingRequest, fixed: number, each: number, length: number): void {
  if (request.type !== NBD_CMD_BLOCK_STATUS) {
    throw new NbdProtocolError('a block status chunk answers a request that is not a BLOCK_STATUS');
  }
  if (length < fixed + each || (length - fixed) % each !== 0 || length > MAX_STATUS_PAYLOAD) {
    throw new NbdProtocolError(`a block status chunk has ${length} bytes`);
  }
}

function distance(request: PendingRequest, offsetHi: number, offsetLo: number): number {
  return (offsetHi - request.offsetHi) * 2 ** 32 + (offsetLo - request.offsetLo);
}

/**
 * Returns the offset in the request of a chunk of `length` bytes, and counts the bytes as answered. They must lie
 * within the request, and none may have been answered before.
 */
export function placeChunk(
  request: PendingRequest,
  offsetHi: number,
  offsetLo: number,
  length: number,
): number {
  const at = distance(request, offsetHi, offsetLo);
  if (at < 0 || at + length > request.length) {
    throw new NbdProtocolError('a data chunk lies outside the requested range');
  }
  if ((request.flags & NBD_CMD_FLAG_DF) !== 0 && request.covered > 0) {
    throw new NbdProtocolError('a reply is fragmented although NBD_CMD_FLAG_DF forbade it');
  }
  if (request.coverage !== undefined || at !== request.covered) {
    if (request.coverage === undefined) {
      request.coverage = new Coverage();
      if (request.covered > 0) request.coverage.add(0, request.covered);
    }
    const wrong = request.coverage.add(at, at + length);
    if (wrong !== undefined) throw new NbdProtocolError(`a data chunk ${wrong}`);
  }
  request.covered += length;
  return at;
}

/** Reads an error chunk, `length` bytes of `body`. The request keeps the first error. */
export function takeError(request: PendingRequest, type: number, body: Uint8Array, length: number): void {
  const error = u32(body, 0);
  const textLength = (body[4] << 8) | body[5];
  const tail = type === NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;
  const known = tail > 0 || type === NBD_REPLY_TYPE_ERROR;
  if (error === 0) throw new NbdProtocolError('an error chunk names no error');
  if (textLength > MAX_MESSAGE)
    throw new NbdProtocolError(`an error chunk's message has ${textLength} bytes`);
  if (6 + textLength + tail > length || (known && 6 + textLength + tail !== length)) {
    throw new NbdProtocolError('an error chunk miscounts its message');
  }
  if (tail > 0) {
    const at = distance(request, u32(body, 6 + textLength), u32(body, 10 + textLength));
    if (at < 0 || at >= Math.max(request.length, 1)) {
      throw new NbdProtocolError('an error chunk names an offset outside of its request');
    }
  }
  if (request.failure !== 0) return;
  request.failure = error;
  request.failureText = new TextDecoder().decode(body.subarray(6, 6 + textLength));
}

/**
 * Returns the extents of a block status chunk of `length` bytes, as big-endian numbers, and counts its context as
 * answered.
 */
export function statusPayload(
  request: PendingRequest,
  body: Uint8Array,
  length: number,
  wide: boolean,
): DataView {
  const view = new DataView(body.buffer, body.byteOffset, length);
  const context = view.getUint32(0);
  request.coverage ??= new Coverage();
  if (request.coverage.add(context, context + 1) !== undefined) {
    throw new NbdProtocolError('a BLOCK_STATUS was answered twice for one metadata context');
  }
  request.covered++;
  if (wide && view.getUint32(4) !== (length - 8) / 16) {
    throw new NbdProtocolError('a 64-bit block status chunk miscounts its extents');
  }
  for (let at = wide ? 8 : 4; at < length; at += wide ? 16 : 8) {
    if (view.getUint32(at) === 0 && (!wide || view.getUint32(at + 4) === 0)) {
      throw new NbdProtocolError('an extent has length 0');
    }
  }
  return view;
}

/** Checks at the end of a reply without an error that it has answered everything. */
export function checkWhole(request: PendingRequest): void {
  if (request.failure !== 0) return;
  if (request.type === NBD_CMD_READ && request.covered !== request.length) {
    throw new NbdProtocolError(
      `a READ of ${request.length} bytes was answered with ${request.covered} bytes`,
    );
  }
  if (request.type === NBD_CMD_BLOCK_STATUS && request.covered === 0) {
    throw new NbdProtocolError('a BLOCK_STATUS was answered without extents');
  }
}
