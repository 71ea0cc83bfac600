// A second, slow and simple reading of proto.md's rules for replies: the whole stream at once, offsets
// in BigInt, one flag a byte. The reply receiver must come to the same results on any stream.

import { NBD_CMD_READ } from '../../src/nbd/constants.js';
import type { ReplyFormat } from '../../src/nbd/reply.js';

/** A READ or another command without block status. */
export interface NaiveRequest {
  readonly type: number;
  readonly offset: bigint;
  readonly length: number;
}

export interface NaiveReply {
  readonly error: number;
  readonly bytes: Uint8Array;
}

class Breach extends Error {}
class EndOfStream extends Error {}

interface State {
  readonly bytes: Uint8Array;
  readonly told: boolean[];
  error: number;
  chunks: number;
}

function must(rule: boolean): void {
  if (!rule) throw new Breach();
}

/** Reads `stream`, and returns the whole replies and whether a rule was broken after them. */
export function readNaively(
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  stream: Uint8Array,
): { replies: Map<bigint, NaiveReply>; breach: boolean } {
  const view = Buffer.from(stream);
  const states = new Map<bigint, State>();
  for (const [cookie, { type, length }] of requests) {
    const size = type === NBD_CMD_READ ? length : 0;
    const told = new Array(size).fill(false);
    states.set(cookie, { bytes: new Uint8Array(size), told, error: 0, chunks: 0 });
  }
  const replies = new Map<bigint, NaiveReply>();
  const structured = format.structuredReplies && !format.extendedHeaders;
  let at = 0;

  const need = (count: number): void => {
    if (at + count > view.length) throw new EndOfStream();
  };
  const find = (): [NaiveRequest, State, bigint] => {
    const cookie = view.readBigUInt64BE(at + 8);
    const request = requests.get(cookie);
    const state = states.get(cookie);
    if (request === undefined || state === undefined) throw new Breach();
    return [request, state, cookie];
  };
  const finish = (cookie: bigint, state: State): void => {
    must(state.error !== 0 || !state.told.includes(false));
    states.delete(cookie);
    replies.set(cookie, { error: state.error, bytes: state.bytes });
  };
  const place = (request: NaiveRequest, state: State, offset: bigint, length: number): number => {
    must(offset >= request.offset && offset + BigInt(length) <= request.offset + BigInt(request.length));
    const first = Number(offset - request.offset);
    for (let i = first; i < first + length; i++) {
      must(!state.told[i]);
      state.told[i] = true;
    }
    return first;
  };

  function simple(): void {
    const [request, state, cookie] = find();
    must(!(structured && request.type === NBD_CMD_READ) && state.chunks === 0);
    const error = view.readUInt32BE(at + 4);
    at += 16;
    if (error === 0 && request.type === NBD_CMD_READ) {
      need(request.length);
      state.bytes.set(view.subarray(at, at + request.length));
      state.told.fill(true);
      at += request.length;
    }
    state.error = error;
    finish(cookie, state);
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
    } else throw new Breach();
    at += length;
    state.chunks++;
    if (last) finish(cookie, state);
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
