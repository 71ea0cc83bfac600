// A second, slow and simple reading of proto.md's rules for replies: the whole stream at once, offsets
// in BigInt, one flag a byte. The reply receiver must come to the same results on any stream.

import type { ReplyFormat } from '../../src/nbd/transmission/reply.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_DF, NBD_CMD_READ } from './nbd-numbers.js';

/** A limit of our own, where proto.md has none: bytes of block status. */
const MOST_STATUS = 16 * 1024 * 1024 + 8;

export interface NaiveRequest {
  readonly type: number;
  readonly offset: bigint;
  readonly length: number;
  /** `NBD_CMD_FLAG_*`; none if not given. */
  readonly flags?: number;
}

export interface NaiveReply {
  readonly error: number;
  /** The data of a READ. */
  readonly bytes: Uint8Array;
  /** The extents of each metadata context, in its order: pairs of length and flags. */
  readonly extents: ReadonlyMap<number, readonly bigint[]>;
}

class Breach extends Error {}
class EndOfStream extends Error {}

interface State {
  readonly bytes: Uint8Array;
  /** One for each byte: 1 once the server has sent it. */
  readonly sent: Uint8Array;
  readonly extents: Map<number, bigint[]>;
  error: number;
  chunks: number;
  contents: number;
}

function must(rule: boolean): void {
  if (!rule) throw new Breach();
}

function beginning({ type, length }: NaiveRequest): State {
  const size = type === NBD_CMD_READ ? length : 0;
  const [bytes, sent] = [new Uint8Array(size), new Uint8Array(size)];
  return { bytes, sent, extents: new Map(), error: 0, chunks: 0, contents: 0 };
}

/** Reads `stream`, and returns the complete replies, and whether a later byte breaks a rule. */
export function readNaively(
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  stream: Uint8Array,
): { replies: Map<bigint, NaiveReply>; breach: boolean } {
  const receiver = new NaiveReceiver(format, requests, stream);
  try {
    receiver.run();
  } catch (stop) {
    if (stop instanceof Breach) return { replies: receiver.replies, breach: true };
    if (!(stop instanceof EndOfStream)) throw stop;
  }
  return { replies: receiver.replies, breach: false };
}

class NaiveReceiver {
  readonly replies = new Map<bigint, NaiveReply>();
  readonly #format: ReplyFormat;
  readonly #requests: ReadonlyMap<bigint, NaiveRequest>;
  readonly #view: Buffer;
  readonly #states = new Map<bigint, State>();
  #at = 0;

  constructor(format: ReplyFormat, requests: ReadonlyMap<bigint, NaiveRequest>, stream: Uint8Array) {
    this.#format = format;
    this.#requests = requests;
    this.#view = Buffer.from(stream);
  }

  /** Reads the stream to its end. @throws Breach, EndOfStream */
  run(): void {
    const view = this.#view;
    const { extendedHeaders } = this.#format;
    while (this.#at < view.length) {
      this.#need(extendedHeaders ? 32 : 16);
      const magic = view.readUInt32BE(this.#at);
      if (magic === 0x67446698 && !extendedHeaders) this.#simple();
      else if (magic === 0x668e33ef && this.#structured) {
        this.#need(20);
        this.#chunk(20, view.readUInt32BE(this.#at + 16));
      } else if (magic === 0x6e8a278c && extendedHeaders) {
        const [request] = this.#find();
        must(
          view.readBigUInt64BE(this.#at + 16) === request.offset && view.readUInt32BE(this.#at + 24) === 0,
        );
        this.#chunk(32, view.readUInt32BE(this.#at + 28));
      } else throw new Breach();
    }
  }

  get #structured(): boolean {
    return this.#format.structuredReplies && !this.#format.extendedHeaders;
  }

  #need(count: number): void {
    if (this.#at + count > this.#view.length) throw new EndOfStream();
  }

  #find(): [NaiveRequest, State, bigint] {
    const cookie = this.#view.readBigUInt64BE(this.#at + 8);
    const request = this.#requests.get(cookie);
    if (request === undefined || this.replies.has(cookie)) throw new Breach();
    const state = this.#states.get(cookie) ?? beginning(request);
    this.#states.set(cookie, state);
    return [request, state, cookie];
  }

  #finish(request: NaiveRequest, cookie: bigint, state: State): void {
    const { error, bytes, sent, extents } = state;
    must(error !== 0 || !sent.includes(0));
    must(error !== 0 || request.type !== NBD_CMD_BLOCK_STATUS || extents.size > 0);
    this.replies.set(cookie, { error, bytes, extents });
  }

  #place(request: NaiveRequest, state: State, offset: bigint, length: number): number {
    must(((request.flags ?? 0) & NBD_CMD_FLAG_DF) === 0 || state.contents === 0);
    state.contents++;
    must(offset >= request.offset && offset + BigInt(length) <= request.offset + BigInt(request.length));
    const first = Number(offset - request.offset);
    for (let i = first; i < first + length; i++) {
      must(state.sent[i] === 0);
      state.sent[i] = 1;
    }
    return first;
  }

  #simple(): void {
    const [request, state, cookie] = this.#find();
    must(!(this.#structured && request.type === NBD_CMD_READ) && state.chunks === 0);
    const error = this.#view.readUInt32BE(this.#at + 4);
    must(request.type !== NBD_CMD_BLOCK_STATUS || error !== 0);
    this.#at += 16;
    if (error === 0 && request.type === NBD_CMD_READ) {
      this.#need(request.length);
      state.bytes.set(this.#view.subarray(this.#at, this.#at + request.length));
      state.sent.fill(1);
      this.#at += request.length;
    }
    state.error = error;
    this.#finish(request, cookie, state);
  }

  #chunk(header: number, length: number): void {
    const [request, state, cookie] = this.#find();
    const last = (this.#view.readUInt16BE(this.#at + 4) & 1) !== 0;
    const type = this.#view.readUInt16BE(this.#at + 6);
    this.#at += header;
    if (type >= 0x8000) this.#error(request, state, type, length);
    else if (type === 0) must(length === 0 && last);
    else if (type === 1) {
      must(request.type === NBD_CMD_READ && length >= 9 && length - 8 <= request.length);
      this.#need(8);
      const first = this.#place(request, state, this.#view.readBigUInt64BE(this.#at), length - 8);
      this.#need(length);
      state.bytes.set(this.#view.subarray(this.#at + 8, this.#at + length), first);
    } else if (type === 2) {
      must(request.type === NBD_CMD_READ && length === 12);
      this.#need(12);
      const size = this.#view.readUInt32BE(this.#at + 8);
      must(size > 0 && size <= request.length);
      const first = this.#place(request, state, this.#view.readBigUInt64BE(this.#at), size);
      state.bytes.fill(0, first, first + size);
    } else if (type === 5 || type === 6) this.#status(request, state, type === 6, length);
    else throw new Breach();
    this.#at += length;
    state.chunks++;
    if (last) this.#finish(request, cookie, state);
  }

  #status(request: NaiveRequest, state: State, wide: boolean, length: number): void {
    must(request.type === NBD_CMD_BLOCK_STATUS && wide === this.#format.extendedHeaders);
    const [head, each] = wide ? [8, 16] : [4, 8];
    must(length >= head + each && (length - head) % each === 0 && length <= MOST_STATUS);
    this.#need(length);
    const context = this.#view.readUInt32BE(this.#at);
    must(!state.extents.has(context));
    must(!wide || this.#view.readUInt32BE(this.#at + 4) === (length - head) / each);
    const extents: bigint[] = [];
    for (let i = this.#at + head; i < this.#at + length; i += each / 2)
      extents.push(wide ? this.#view.readBigUInt64BE(i) : BigInt(this.#view.readUInt32BE(i)));
    must(extents.every((value, i) => i % 2 === 1 || value !== 0n));
    state.extents.set(context, extents);
  }

  #error(request: NaiveRequest, state: State, type: number, length: number): void {
    must(length >= 6 && length <= 4110);
    this.#need(length);
    const code = this.#view.readUInt32BE(this.#at);
    const message = this.#view.readUInt16BE(this.#at + 4);
    must(code !== 0 && message <= 4096);
    if (type === 0x8001) must(length === 6 + message);
    else if (type === 0x8002) {
      must(length === 14 + message);
      const offset = this.#view.readBigUInt64BE(this.#at + 6 + message);
      must(offset >= request.offset && offset < request.offset + BigInt(Math.max(request.length, 1)));
    } else must(length >= 6 + message);
    if (state.error === 0) state.error = code;
  }
}
