// A second, slow and simple reading of proto.md's rules for replies: the whole stream at once, offsets
// in BigInt, one flag a byte. The reply receiver must come to the same results on any stream.

import type { ReplyFormat } from '../../src/nbd/transmission/reply.js';

const NBD_CMD_READ = 0;
const NBD_CMD_BLOCK_STATUS = 7;
const NBD_CMD_FLAG_DF = 4;

/** Limits of our own, where proto.md has none: bytes of block status, pieces of one reply. */
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

/** Reads `stream`, and returns the whole replies and whether a rule was broken after them. */
export function readNaively(
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  stream: Uint8Array,
): { replies: Map<bigint, NaiveReply>; breach: boolean } {
  const view = Buffer.from(stream);
  const states = new Map<bigint, State>();
  const replies = new Map<bigint, NaiveReply>();
  const structured = format.structuredReplies && !format.extendedHeaders;
  let at = 0;

  const need = (count: number): void => {
    if (at + count > view.length) throw new EndOfStream();
  };
  const find = (): [NaiveRequest, State, bigint] => {
    const cookie = view.readBigUInt64BE(at + 8);
    const request = requests.get(cookie);
    if (request === undefined || replies.has(cookie)) throw new Breach();
    const state = states.get(cookie) ?? beginning(request);
    states.set(cookie, state);
    return [request, state, cookie];
  };
  const finish = (request: NaiveRequest, cookie: bigint, state: State): void => {
    const { error, bytes, sent, extents } = state;
    must(error !== 0 || !sent.includes(0));
    must(error !== 0 || request.type !== NBD_CMD_BLOCK_STATUS || extents.size > 0);
    replies.set(cookie, { error, bytes, extents });
  };
  const place = (request: NaiveRequest, state: State, offset: bigint, length: number): number => {
    must(((request.flags ?? 0) & NBD_CMD_FLAG_DF) === 0 || state.contents === 0);
    state.contents++;
    must(offset >= request.offset && offset + BigInt(length) <= request.offset + BigInt(request.length));
    const first = Number(offset - request.offset);
    for (let i = first; i < first + length; i++) {
      must(state.sent[i] === 0);
      state.sent[i] = 1;
    }
    return first;
  };

  function simple(): void {
    const [request, state, cookie] = find();
    must(!(structured && request.type === NBD_CMD_READ) && state.chunks === 0);
    const error = view.readUInt32BE(at + 4);
    must(request.type !== NBD_CMD_BLOCK_STATUS || error !== 0);
    at += 16;
    if (error === 0 && request.type === NBD_CMD_READ) {
      need(request.length);
      state.bytes.set(view.subarray(at, at + request.length));
      state.sent.fill(1);
      at += request.length;
    }
    state.error = error;
    finish(request, cookie, state);
  }

  function chunk(header: number, length: number): void {
    const [request, state, cookie] = find();
    const last = (view.readUInt16BE(at + 4) & 1) !== 0;
    const type = view.readUInt16BE(at + 6);
    at += header;
    if (type >= 0x8000) error(request, state, type, length);
    else if (type === 0) must(length === 0 && last);
    else if (type === 1) {
      must(request.type === NBD_CMD_READ && length >= 9 && length - 8 <= request.length);
      need(8);
      const first = place(request, state, view.readBigUInt64BE(at), length - 8);
      need(length);
      state.bytes.set(view.subarray(at + 8, at + length), first);
    } else if (type === 2) {
      must(request.type === NBD_CMD_READ && length === 12);
      need(12);
      const size = view.readUInt32BE(at + 8);
      must(size > 0 && size <= request.length);
      const first = place(request, state, view.readBigUInt64BE(at), size);
      state.bytes.fill(0, first, first + size);
    } else if (type === 5 || type === 6) status(request, state, type === 6, length);
    else throw new Breach();
    at += length;
    state.chunks++;
    if (last) finish(request, cookie, state);
  }

  function status(request: NaiveRequest, state: State, wide: boolean, length: number): void {
    must(request.type === NBD_CMD_BLOCK_STATUS && wide === format.extendedHeaders);
    const [head, each] = wide ? [8, 16] : [4, 8];
    must(length >= head + each && (length - head) % each === 0 && length <= MOST_STATUS);
    need(length);
    const context = view.readUInt32BE(at);
    must(!state.extents.has(context));
    must(!wide || view.readUInt32BE(at + 4) === (length - head) / each);
    const extents: bigint[] = [];
    for (let i = at + head; i < at + length; i += each / 2)
      extents.push(wide ? view.readBigUInt64BE(i) : BigInt(view.readUInt32BE(i)));
    must(extents.every((value, i) => i % 2 === 1 || value !== 0n));
    state.extents.set(context, extents);
  }

  function error(request: NaiveRequest, state: State, type: number, length: number): void {
    must(length >= 6 && length <= 4110);
    need(length);
    const code = view.readUInt32BE(at);
    const message = view.readUInt16BE(at + 4);
    must(code !== 0 && message <= 4096);
    if (type === 0x8001) must(length === 6 + message);
    else if (type === 0x8002) {
      must(length === 14 + message);
      const offset = view.readBigUInt64BE(at + 6 + message);
      must(offset >= request.offset && offset < request.offset + BigInt(Math.max(request.length, 1)));
    } else must(length >= 6 + message);
    if (state.error === 0) state.error = code;
  }

  try {
    while (at < view.length) {
      need(format.extendedHeaders ? 32 : 16);
      const magic = view.readUInt32BE(at);
      if (magic === 0x67446698 && !format.extendedHeaders) simple();
      else if (magic === 0x668e33ef && structured) {
        need(20);
        chunk(20, view.readUInt32BE(at + 16));
      } else if (magic === 0x6e8a278c && format.extendedHeaders) {
        const [request] = find();
        must(view.readBigUInt64BE(at + 16) === request.offset && view.readUInt32BE(at + 24) === 0);
        chunk(32, view.readUInt32BE(at + 28));
      } else throw new Breach();
    }
  } catch (stop) {
    if (stop instanceof Breach) return { replies, breach: true };
    if (!(stop instanceof EndOfStream)) throw stop;
  }
  return { replies, breach: false };
}
