// Takes requests of the transmission phase out of a client's bytes. Pure.
//
// Owned by client.ts. A payload that lies in one received chunk is not copied; else each of its bytes is copied once,
// into a buffer of the payload's length. The sink may decline a request for now: then the bytes stay here.

import { NBD_CMD_WRITE, NBD_REQUEST_MAGIC } from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import { REQUEST_LENGTH } from '../../nbd/transmission/request.js';

/** The header of a request. */
export interface ClientRequest {
  /** `NBD_CMD_FLAG_*`, or-ed. */
  readonly flags: number;
  /** `NBD_CMD_*`, or any other number of 16 bits. */
  readonly type: number;
  readonly cookieHi: number;
  readonly cookieLo: number;
  /** Bytes; exact below 2^53, and above that still above. */
  readonly offset: number;
  /** Bytes, below 2^32. */
  readonly length: number;
}

/** Receives the requests. */
export interface RequestSink {
  /** Whether a request may begin now; if not, the caller calls `resume` later. */
  admits(request: ClientRequest): boolean;
  /** A whole request. @param payload of a WRITE; undefined where its length exceeds the maximum, and it was skipped */
  take(request: ClientRequest, payload: Uint8Array | undefined): void;
}

const EMPTY = new Uint8Array(0);

/** See the file's head. */
export class RequestReceiver {
  readonly #sink: RequestSink;
  /** Maximum bytes of a payload that is kept. */
  readonly #maximum: number;
  /** Received chunks that are not used up; more than one only while the sink declines. */
  #chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that are used up. */
  #at = 0;
  readonly #headerBytes = new Uint8Array(REQUEST_LENGTH);
  readonly #header = new DataView(this.#headerBytes.buffer);
  #headerLength = 0;
  /** The request whose header is complete. */
  #request: ClientRequest | undefined;
  #isAdmitted = false;
  #payload: Uint8Array | undefined;
  #payloadLength = 0;

  constructor(sink: RequestSink, maximum: number) {
    this.#sink = sink;
    this.#maximum = maximum;
  }

  /** Whether the sink has declined a request. */
  get isDeclined(): boolean {
    return this.#request !== undefined && !this.#isAdmitted;
  }

  /** Takes the next bytes, whose memory it may pass on. @throws NbdProtocolError */
  receive(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#chunks.push(bytes);
    this.resume();
  }

  /** Goes on where the sink declined. @throws NbdProtocolError */
  resume(): void {
    while (this.#step());
  }

  /** @returns whether something was done */
  #step(): boolean {
    if (this.#request === undefined) return this.#takeHeader();
    if (!this.#isAdmitted) {
      this.#isAdmitted = this.#sink.admits(this.#request);
      return this.#isAdmitted;
    }
    if (this.#request.type !== NBD_CMD_WRITE) return this.#finish(this.#request, EMPTY);
    if (this.#request.length > this.#maximum) return this.#skip(this.#request);
    return this.#takePayload(this.#request);
  }

  /** Up to `count` of the next bytes, in the memory of their chunk; none if none are there. */
  #next(count: number): Uint8Array {
    const [chunk] = this.#chunks;
    if (chunk === undefined) return EMPTY;
    const found = chunk.subarray(this.#at, this.#at + count);
    this.#at += found.length;
    if (this.#at === chunk.length) {
      this.#chunks.shift();
      this.#at = 0;
    }
    return found;
  }

  #takeHeader(): boolean {
    const found = this.#next(REQUEST_LENGTH - this.#headerLength);
    this.#headerBytes.set(found, this.#headerLength);
    this.#headerLength += found.length;
    if (this.#headerLength < REQUEST_LENGTH) return found.length > 0;
    this.#headerLength = 0;
    const header = this.#header;
    const magic = header.getUint32(0);
    if (magic !== NBD_REQUEST_MAGIC)
      throw new NbdProtocolError(`a request begins with magic 0x${magic.toString(16)}`);
    this.#request = {
      flags: header.getUint16(4),
      type: header.getUint16(6),
      cookieHi: header.getUint32(8),
      cookieLo: header.getUint32(12),
      offset: header.getUint32(16) * 2 ** 32 + header.getUint32(20),
      length: header.getUint32(24),
    };
    return true;
  }

  #takePayload(request: ClientRequest): boolean {
    const found = this.#next(request.length - this.#payloadLength);
    if (this.#payload === undefined && found.length === request.length) return this.#finish(request, found);
    if (found.length === 0) return false;
    // Memory of its own: a pool would keep its neighbours alive.
    this.#payload ??= Buffer.allocUnsafeSlow(request.length);
    this.#payload.set(found, this.#payloadLength);
    this.#payloadLength += found.length;
    return this.#payloadLength < request.length || this.#finish(request, this.#payload);
  }

  #skip(request: ClientRequest): boolean {
    const found = this.#next(request.length - this.#payloadLength);
    this.#payloadLength += found.length;
    if (this.#payloadLength === request.length) return this.#finish(request, undefined);
    return found.length > 0;
  }

  #finish(request: ClientRequest, payload: Uint8Array | undefined): true {
    this.#request = undefined;
    this.#isAdmitted = false;
    this.#payload = undefined;
    this.#payloadLength = 0;
    this.#sink.take(request, payload);
    return true;
  }
}
