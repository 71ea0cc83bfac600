// Parses the replies of one connection: bytes in, contents of replies out. The hot path of the transmission phase.
//
// Used by the worker's connections and by the Promise client. Pure: never blocks, and allocates only for replies
// without a fast path (block status, errors, out-of-order chunks). The caller may receive large payloads itself:
// `payloadPending` and `payloadRequest` tell how much is expected and for which command, `landed` reports it. Every
// violation throws NbdProtocolError; the connection must be closed then.

import {
  NBD_CMD_READ,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from '../constants.js';
import { NbdProtocolError } from '../errors.js';
import type { PendingRequest, ReplyFormat, ReplySink } from './reply.js';
import * as rules from './reply-rules.js';

const SIMPLE_HEADER = 16;
const CHUNK_HEADER = 20;
const EXTENDED_HEADER = 32;

/** Bytes of the offset that a chunk of data has before its payload. */
const CHUNK_OFFSET = 8;

const STATE_HEADER = 0;
const STATE_CHUNK_OFFSET = 1;
const STATE_PAYLOAD = 2;
const STATE_BODY = 3;

/** Bytes before the payload of a READ whose reply is one chunk of data, or a simple reply. */
export function readReplyHeader({ structuredReplies, extendedHeaders }: ReplyFormat): number {
  if (extendedHeaders) return EXTENDED_HEADER + CHUNK_OFFSET;
  return structuredReplies ? CHUNK_HEADER + CHUNK_OFFSET : SIMPLE_HEADER;
}

/** Parses the replies of one connection, from the first one on. */
export class ReplyReceiver<P extends PendingRequest> {
  readonly #sink: ReplySink<P>;
  readonly #structured: boolean;
  readonly #extended: boolean;
  readonly #partial = new Uint8Array(EXTENDED_HEADER + CHUNK_OFFSET);
  #partialLength = 0;
  #need: number;
  #state = STATE_HEADER;
  #request: P | undefined;
  #chunkType = 0;
  #chunkLast = false;
  #chunkLength = 0;
  #at = 0;
  #pending = 0;
  #whole = false;
  #body = new Uint8Array(0);

  constructor(format: ReplyFormat, sink: ReplySink<P>) {
    this.#sink = sink;
    this.#extended = format.extendedHeaders;
    this.#structured = format.structuredReplies && !format.extendedHeaders;
    this.#need = this.#extended ? EXTENDED_HEADER : SIMPLE_HEADER;
  }

  /** Bytes of a READ's payload that come next in the stream; 0: something else comes. */
  get payloadPending(): number {
    return this.#state === STATE_PAYLOAD ? this.#pending : 0;
  }

  /** The request of that payload, while `payloadPending` is not 0. */
  get payloadRequest(): P | undefined {
    return this.#request;
  }

  /** Offset in the request of the next payload byte, while `payloadPending` is not 0. */
  get payloadAt(): number {
    return this.#at;
  }

  /** Whether the payload is a chunk that makes up the whole reply: `finished` follows its last byte. */
  get payloadWhole(): boolean {
    return this.#whole;
  }

  /** Header bytes that must come next; 0 within a payload or a body. */
  get headerPending(): number {
    return this.#state === STATE_HEADER || this.#state === STATE_CHUNK_OFFSET
      ? this.#need - this.#partialLength
      : 0;
  }

  /** Whether the stream may end here: no reply has begun. */
  get idle(): boolean {
    return this.#state === STATE_HEADER && this.#partialLength === 0;
  }

  /**
   * Parses `bytes[start, end)`. The memory belongs to the caller.
   * @throws NbdProtocolError with the violated rule
   */
  receive(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    while (at < end) {
      switch (this.#state) {
        case STATE_PAYLOAD:
          at = this.#takePayload(bytes, at, end);
          break;
        case STATE_BODY:
          at = this.#takeBody(bytes, at, end);
          break;
        default:
          at = this.#takeHeader(bytes, at, end);
      }
    }
  }

  /** Reports that the caller has received `count` bytes (1 to `payloadPending`) of the payload itself. */
  landed(count: number): void {
    this.#at += count;
    this.#pending -= count;
    if (this.#pending === 0) this.#finishChunk();
  }

  #takeHeader(bytes: Uint8Array, start: number, end: number): number {
    if (this.#partialLength === 0 && end - start >= this.#need) {
      if (this.#structured && this.#need === SIMPLE_HEADER && end - start >= CHUNK_HEADER) {
        if (rules.u32(bytes, start) === NBD_STRUCTURED_REPLY_MAGIC) this.#need = CHUNK_HEADER;
      }
      const need = this.#need;
      this.#parseHeader(bytes, start);
      return start + need;
    }
    const count = Math.min(this.#need - this.#partialLength, end - start);
    for (let i = 0; i < count; i++) this.#partial[this.#partialLength + i] = bytes[start + i];
    this.#partialLength += count;
    if (this.#partialLength === this.#need) {
      this.#partialLength = 0;
      this.#parseHeader(this.#partial, 0);
    }
    return start + count;
  }

  #expectHeader(): void {
    this.#state = STATE_HEADER;
    this.#need = this.#extended ? EXTENDED_HEADER : SIMPLE_HEADER;
  }

  #parseHeader(bytes: Uint8Array, at: number): void {
    if (this.#state === STATE_CHUNK_OFFSET) {
      this.#startData(rules.u32(bytes, at), rules.u32(bytes, at + 4));
      return;
    }
    const magic = rules.u32(bytes, at);
    if (magic === NBD_SIMPLE_REPLY_MAGIC && !this.#extended) this.#simpleReply(bytes, at);
    else if (magic === NBD_STRUCTURED_REPLY_MAGIC && this.#structured) this.#chunkHeader(bytes, at);
    else if (magic === NBD_EXTENDED_REPLY_MAGIC && this.#extended) this.#extendedHeader(bytes, at);
    else
      throw new NbdProtocolError(
        `a reply begins with magic 0x${magic.toString(16)}, which was not negotiated`,
      );
  }

  #findRequest(bytes: Uint8Array, at: number): P {
    const request = this.#sink.find(rules.u32(bytes, at), rules.u32(bytes, at + 4));
    if (request === undefined) {
      const cookie = `0x${rules.u32(bytes, at).toString(16)}:${rules.u32(bytes, at + 4).toString(16)}`;
      throw new NbdProtocolError(`a reply names cookie ${cookie}, which is not in flight`);
    }
    this.#request = request;
    return request;
  }

  #simpleReply(bytes: Uint8Array, at: number): void {
    const error = rules.u32(bytes, at + 4);
    const request = this.#findRequest(bytes, at + 8);
    rules.checkSimpleReply(request, error, this.#structured);
    this.#expectHeader();
    if (error !== 0 || request.type !== NBD_CMD_READ) {
      this.#sink.finished(request, error, '');
      return;
    }
    request.covered = request.length;
    this.#chunkType = NBD_REPLY_TYPE_OFFSET_DATA;
    this.#chunkLast = true;
    this.#beginPayload(0, request.length);
  }

  #chunkHeader(bytes: Uint8Array, at: number): void {
    if (this.#need < CHUNK_HEADER) {
      // 16 bytes were enough to find the kind of header, but it has 20: keep them until the rest comes.
      for (let i = 0; i < SIMPLE_HEADER; i++) this.#partial[i] = bytes[at + i];
      this.#partialLength = SIMPLE_HEADER;
      this.#need = CHUNK_HEADER;
      return;
    }
    const request = this.#findRequest(bytes, at + 8);
    const flags = (bytes[at + 4] << 8) | bytes[at + 5];
    const type = (bytes[at + 6] << 8) | bytes[at + 7];
    this.#beginChunk(request, flags, type, rules.u32(bytes, at + 16));
  }

  #extendedHeader(bytes: Uint8Array, at: number): void {
    const request = this.#findRequest(bytes, at + 8);
    if (rules.u32(bytes, at + 16) !== request.offsetHi || rules.u32(bytes, at + 20) !== request.offsetLo) {
      throw new NbdProtocolError('an extended reply names another offset than its request');
    }
    if (rules.u32(bytes, at + 24) !== 0) throw new NbdProtocolError('a reply chunk is longer than 4 GiB');
    const flags = (bytes[at + 4] << 8) | bytes[at + 5];
    const type = (bytes[at + 6] << 8) | bytes[at + 7];
    this.#beginChunk(request, flags, type, rules.u32(bytes, at + 28));
  }

  #beginChunk(request: P, flags: number, type: number, length: number): void {
    this.#chunkType = type;
    this.#chunkLast = (flags & NBD_REPLY_FLAG_DONE) !== 0;
    this.#chunkLength = length;
    rules.checkChunk(request, type, length, this.#chunkLast, this.#extended);
    if (type === NBD_REPLY_TYPE_OFFSET_DATA) {
      this.#state = STATE_CHUNK_OFFSET;
      this.#need = 8;
    } else if (length === 0) this.#finishChunk();
    else {
      this.#state = STATE_BODY;
      this.#at = 0;
      this.#pending = length;
      if (this.#body.length < Math.min(length, rules.MAX_ERROR_PAYLOAD))
        this.#body = new Uint8Array(rules.MAX_ERROR_PAYLOAD);
    }
  }

  #startData(offsetHi: number, offsetLo: number): void {
    const request = this.#current();
    const length = this.#chunkLength - 8;
    this.#beginPayload(rules.placeChunk(request, offsetHi, offsetLo, length), length);
  }

  #beginPayload(at: number, length: number): void {
    const request = this.#current();
    this.#at = at;
    this.#pending = length;
    this.#whole = this.#chunkLast && at === 0 && length === request.length && request.failure === 0;
    if (length > 0) this.#state = STATE_PAYLOAD;
    else this.#finishChunk();
  }

  #takePayload(bytes: Uint8Array, start: number, end: number): number {
    const request = this.#current();
    const count = Math.min(this.#pending, end - start);
    if (this.#whole && count === request.length) this.#sink.wholeData(request, bytes, start);
    else this.#sink.data(request, this.#at, bytes, start, start + count);
    this.landed(count);
    return start + count;
  }

  #takeBody(bytes: Uint8Array, start: number, end: number): number {
    const count = Math.min(this.#pending, end - start);
    if (this.#at + count > this.#body.length) {
      // The buffer grows with the received bytes, not with the announced length, which a server may forge.
      const larger = new Uint8Array(Math.max(this.#at + count, this.#body.length * 2));
      larger.set(this.#body.subarray(0, this.#at));
      this.#body = larger;
    }
    this.#body.set(bytes.subarray(start, start + count), this.#at);
    this.#at += count;
    this.#pending -= count;
    if (this.#pending === 0) this.#finishBody();
    return start + count;
  }

  #finishBody(): void {
    const request = this.#current();
    const body = this.#body;
    if (rules.isErrorType(this.#chunkType))
      rules.takeError(request, this.#chunkType, body, this.#chunkLength);
    else if (this.#chunkType === NBD_REPLY_TYPE_OFFSET_HOLE) {
      const length = rules.u32(body, 8);
      if (length === 0) throw new NbdProtocolError('a hole chunk has length 0');
      this.#sink.hole(
        request,
        rules.placeChunk(request, rules.u32(body, 0), rules.u32(body, 4), length),
        length,
      );
    } else {
      const wide = this.#chunkType === NBD_REPLY_TYPE_BLOCK_STATUS_EXT;
      const view = rules.statusPayload(request, body, this.#chunkLength, wide);
      this.#sink.extents(request, view.getUint32(0), view, wide ? 8 : 4, wide);
    }
    if (body.length > 65_536) this.#body = new Uint8Array(0);
    this.#finishChunk();
  }

  #finishChunk(): void {
    const request = this.#current();
    this.#expectHeader();
    if (!this.#chunkLast) return;
    rules.checkWhole(request);
    this.#request = undefined;
    this.#sink.finished(request, request.failure, request.failureText);
  }

  #current(): P {
    if (this.#request === undefined) throw new NbdProtocolError('a chunk belongs to no request');
    return this.#request;
  }
}
