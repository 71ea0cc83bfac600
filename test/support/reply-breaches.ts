// Replies to a READ that break a rule of the protocol, one rule each, with the error message.
//
// Used by tests of hostile servers, on the mount and on the library. The bytes are laid out by hand.

import type { ScriptedExport } from './scripted-handshake.js';
import type { ReplyWriter } from './scripted-server.js';
import {
  extendedChunk,
  type ScriptedRequest,
  simpleReply,
  structuredChunk,
  u16,
  u32,
  u64,
} from './scripted-wire.js';

const DONE = 1;
const [NONE, DATA, HOLE, ERROR] = [0, 1, 2, 0x8001];

/** One way to break the protocol. */
export interface ReplyBreach {
  readonly name: string;
  /** The terms of the server besides structured replies. */
  readonly served?: Partial<ScriptedExport>;
  /** Answers a READ; `before` is a READ that got a correct reply. */
  answer(request: ScriptedRequest, reply: ReplyWriter, before: ScriptedRequest): void;
  /** The rule as the message names it. */
  readonly rule: RegExp;
}

const bytesFor = ({ length }: ScriptedRequest): Buffer => Buffer.alloc(length, 'wrong');

const EXTENDED = { extendedHeaders: true } as const;

export const REPLY_BREACHES: readonly ReplyBreach[] = [
  {
    name: 'a wrong magic',
    answer: (_, reply) => reply.raw(Buffer.alloc(64, 0xff)),
    rule: /begins with magic 0xffffffff, which was not negotiated/,
  },
  {
    name: 'a cookie that nobody knows',
    answer: ({ cookie }, reply) =>
      reply.raw(structuredChunk(DONE, NONE, cookie ^ 0x5000_0000n, Buffer.alloc(0))),
    rule: /cookie 0x[0-9a-f]+:[0-9a-f]+, which is not in flight/,
  },
  {
    name: 'the cookie of a request that was answered before',
    answer: (request, reply, before) => {
      const payload = Buffer.concat([u64(before.offset), bytesFor(before)]);
      reply.raw(structuredChunk(DONE, DATA, before.cookie, payload));
      reply.data(bytesFor(request));
    },
    rule: /which is not in flight/,
  },
  {
    name: 'more data than requested',
    answer: (request, reply) => reply.dataChunk(request.offset, Buffer.alloc(request.length + 1), true),
    rule: /a data chunk has \d+ bytes, but \d+ were requested/,
  },
  {
    name: 'less data than requested',
    answer: (request, reply) => reply.dataChunk(request.offset, bytesFor(request).subarray(1), true),
    rule: /a READ of \d+ bytes was answered with \d+ bytes/,
  },
  {
    name: 'data at an offset that overflows',
    answer: (request, reply) => reply.dataChunk(2n ** 64n - 1n, bytesFor(request), true),
    rule: /a data chunk lies outside the requested range/,
  },
  {
    name: 'data that begin before the requested range',
    answer: (request, reply) => reply.dataChunk(request.offset - 1n, bytesFor(request), true),
    rule: /a data chunk lies outside the requested range/,
  },
  {
    name: 'data twice for the same bytes',
    answer: (request, reply) => {
      const half = bytesFor(request).subarray(request.length / 2);
      reply.dataChunk(request.offset, half);
      reply.dataChunk(request.offset + 512n, half);
    },
    rule: /a data chunk overlaps an earlier chunk/,
  },
  {
    name: 'data for one half alone',
    answer: (request, reply) => {
      const half = request.length / 2;
      reply.dataChunk(request.offset + BigInt(half), bytesFor(request).subarray(half), true);
    },
    rule: /a READ of \d+ bytes was answered with \d+ bytes/,
  },
  {
    name: 'the end of a reply twice',
    answer: (request, reply) => {
      // Complete and correct until then: the client may accept it.
      reply.dataChunk(request.offset, Buffer.alloc(request.length, 'right'));
      const end = structuredChunk(DONE, NONE, request.cookie, Buffer.alloc(0));
      reply.raw(Buffer.concat([end, end]));
    },
    rule: /which is not in flight/,
  },
  {
    name: 'a hole of 4 GiB',
    answer: (request, reply) =>
      reply.chunk(HOLE, Buffer.concat([u64(request.offset), u32(0xffffffff)]), true),
    rule: /a data chunk lies outside the requested range/,
  },
  {
    name: 'an error with a huge text',
    answer: (_, reply) =>
      reply.chunk(ERROR, Buffer.concat([u32(5), u16(0xffff), Buffer.alloc(0xffff, 'x')]), true),
    rule: /an error chunk has 65541 bytes/,
  },
  {
    name: 'an error whose text is longer than its chunk',
    answer: (_, reply) => reply.chunk(ERROR, Buffer.concat([u32(5), u16(4000), Buffer.from('short')]), true),
    rule: /an error chunk miscounts its message/,
  },
  {
    name: 'an error that is none',
    answer: (_, reply) => reply.chunk(ERROR, Buffer.concat([u32(0), u16(0)]), true),
    rule: /an error chunk names no error/,
  },
  {
    name: 'a simple reply after structured ones were agreed on',
    answer: (request, reply) => reply.raw(simpleReply(request.cookie, 0, bytesFor(request))),
    rule: /a simple reply answers a READ/,
  },
  {
    name: 'a chunk of 8 GiB',
    served: EXTENDED,
    answer: ({ cookie, offset }, reply) => {
      const header = extendedChunk(DONE, DATA, cookie, offset, Buffer.alloc(0));
      header.writeBigUInt64BE(2n ** 33n, 24);
      reply.raw(header);
    },
    rule: /a reply chunk is longer than 4 GiB/,
  },
  {
    name: 'the offset of another request',
    served: EXTENDED,
    answer: (request, reply) =>
      reply.raw(
        extendedChunk(
          DONE,
          DATA,
          request.cookie,
          request.offset + 2n ** 32n,
          Buffer.concat([u64(request.offset), bytesFor(request)]),
        ),
      ),
    rule: /names another offset than its request/,
  },
];
