// Every rule that proto.md sets for replies, broken once: the connection ends, for any cuts, and no request
// counts as answered. Grouped by the sections that set the rules.

import { describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
} from '../../../src/nbd/constants.js';
import { NbdProtocolError } from '../../../src/nbd/errors.js';
import type { ReplyFormat } from '../../../src/nbd/transmission/reply.js';
import { hex } from '../../support/hex.js';
import {
  EVERY_WAY,
  EXTENDED,
  RecordedRequest,
  Recorder,
  SIMPLE,
  STRUCTURED,
} from '../../support/reply-recorder.js';
import {
  bytesOf,
  type Chunk,
  extendedChunk,
  simpleReply,
  structuredChunk,
  u16,
  u32,
  u64,
} from '../../support/reply-stream.js';

const DONE = 1;
const NONE = 0;
const DATA = 1;
const HOLE = 2;
const STATUS = 5;
const STATUS_EXT = 6;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;

/** The request of each case: cookie 1, 8 bytes at offset 100 (block status: 4096 at 0). */
const read = (): RecordedRequest => new RecordedRequest(NBD_CMD_READ, 100n, 8);
const unfragmented = (): RecordedRequest => new RecordedRequest(NBD_CMD_READ, 100n, 8, NBD_CMD_FLAG_DF);
const write = (): RecordedRequest => new RecordedRequest(NBD_CMD_WRITE, 100n, 8);
const status = (): RecordedRequest => new RecordedRequest(NBD_CMD_BLOCK_STATUS, 0n, 4096);

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const eight = text('12345678');
const at = (offset: bigint, bytes: Uint8Array | number[]): Uint8Array => bytesOf(u64(offset), bytes);
const chunk = (type: number, payload: Uint8Array | number[] = [], more: Partial<Chunk> = {}): Uint8Array =>
  structuredChunk({ cookie: 1n, type, payload: Uint8Array.from(payload), ...more });
const extended = (type: number, payload: Uint8Array | number[] = [], more: Partial<Chunk> = {}): Uint8Array =>
  extendedChunk({ cookie: 1n, type, payload: Uint8Array.from(payload), ...more });
const last = { flags: DONE };

type Breach = readonly [string, ReplyFormat, () => RecordedRequest, Uint8Array, RegExp];

/** One test per breach, which must fail for every way to feed the bytes. */
function refuses(breaches: readonly Breach[]): void {
  for (const [name, format, ask, stream, rule] of breaches) {
    test(name, () => {
      for (const [way, run] of EVERY_WAY) {
        const recorder = new Recorder();
        const recorded = recorder.ask(1n, ask());
        let caught: unknown;
        try {
          run(format, recorder, stream);
        } catch (error) {
          caught = error;
        }
        expect(caught, way).toBeInstanceOf(NbdProtocolError);
        expect(String(caught), way).toMatch(rule);
        expect(recorded.result, way).toBeUndefined();
      }
    });
  }
}

describe('"Simple reply message"', () => {
  refuses([
    ['magic that is none', SIMPLE, read, hex`01020304 00*28`, /magic 0x1020304/],
    ['magic of a request', SIMPLE, read, hex`25609513 00*28`, /magic 0x25609513/],
    [
      'a cookie that is not in flight',
      SIMPLE,
      read,
      simpleReply(2n, 0),
      /cookie 0x0:2, which is not in flight/,
    ],
    [
      'a cookie of another generation',
      SIMPLE,
      read,
      simpleReply(0x100000001n, 0),
      /0x1:1, which is not in flight/,
    ],
    [
      'to READ after structured replies were agreed on',
      STRUCTURED,
      read,
      simpleReply(1n, 0, eight),
      /simple reply/,
    ],
    ['even with an error', STRUCTURED, read, bytesOf(simpleReply(1n, 5), eight), /simple reply/],
    [
      'to BLOCK_STATUS, without an error',
      STRUCTURED,
      status,
      bytesOf(simpleReply(1n, 0), eight),
      /BLOCK_STATUS/,
    ],
    [
      'after a chunk',
      STRUCTURED,
      write,
      bytesOf(chunk(ERROR, bytesOf(u32(5), u16(0))), simpleReply(1n, 0)),
      /follows chunks/,
    ],
    [
      'among extended replies',
      EXTENDED,
      write,
      bytesOf(simpleReply(1n, 0), eight, eight),
      /magic 0x67446698/,
    ],
  ]);

  test('a second reply with the same cookie', () => {
    for (const [way, run] of EVERY_WAY) {
      const recorder = new Recorder();
      const recorded = recorder.ask(1n, read());
      const stream = bytesOf(simpleReply(1n, 0, eight), simpleReply(1n, 5));
      expect(() => run(SIMPLE, recorder, stream), way).toThrow(/not in flight/);
      expect(recorded.result, way).toEqual({ error: 0, text: '' });
    }
  });
});

describe('"Structured reply chunk message"', () => {
  refuses([
    ['where it was not agreed on', SIMPLE, read, chunk(NONE, [], last), /magic 0x668e33ef/],
    [
      'where extended replies were agreed on',
      EXTENDED,
      read,
      bytesOf(chunk(NONE, [], last), eight, eight),
      /magic/,
    ],
    [
      'a cookie that is not in flight',
      STRUCTURED,
      read,
      chunk(NONE, [], { cookie: 2n, ...last }),
      /not in flight/,
    ],
    [
      'a cookie of another generation',
      STRUCTURED,
      read,
      chunk(DATA, at(100n, eight), { cookie: 2n ** 63n + 1n }),
      /in flight/,
    ],
  ]);

  test('a chunk after the one with NBD_REPLY_FLAG_DONE', () => {
    for (const [way, run] of EVERY_WAY) {
      const recorder = new Recorder();
      recorder.ask(1n, read());
      const stream = bytesOf(chunk(DATA, at(100n, eight), last), chunk(NONE, [], last));
      expect(() => run(STRUCTURED, recorder, stream), way).toThrow(/not in flight/);
    }
  });
});

describe('"Structured reply types": NBD_REPLY_TYPE_NONE', () => {
  refuses([
    ['with bytes', STRUCTURED, write, chunk(NONE, eight, last), /carries bytes/],
    ['that is not the last', STRUCTURED, write, chunk(NONE), /not the last/],
    [
      'as the whole reply to READ',
      STRUCTURED,
      read,
      chunk(NONE, [], last),
      /8 bytes was answered with 0 bytes/,
    ],
    ['as the whole reply to BLOCK_STATUS', STRUCTURED, status, chunk(NONE, [], last), /without extents/],
  ]);
});

describe('"Structured reply types": NBD_REPLY_TYPE_OFFSET_DATA', () => {
  const two = chunk(DATA, at(102n, text('ab')));
  refuses([
    ['of no bytes', STRUCTURED, read, chunk(DATA, u64(100n)), /has 8 bytes/],
    ['without room for its offset', STRUCTURED, read, chunk(DATA, [1, 2, 3]), /has 3 bytes/],
    ['without anything', STRUCTURED, read, chunk(DATA), /has 0 bytes/],
    [
      'of more bytes than requested',
      STRUCTURED,
      read,
      chunk(DATA, at(100n, text('123456789'))),
      /has 17 bytes/,
    ],
    ['that claims 4 GiB', STRUCTURED, read, chunk(DATA, [], { length: 0xffffffff }), /has 4294967295 bytes/],
    ['before the requested range', STRUCTURED, read, chunk(DATA, at(99n, eight)), /outside/],
    ['at the beginning of the export', STRUCTURED, read, chunk(DATA, at(0n, eight)), /outside/],
    ['past the requested range', STRUCTURED, read, chunk(DATA, at(101n, eight)), /outside/],
    ['right behind the requested range', STRUCTURED, read, chunk(DATA, at(108n, text('a'))), /outside/],
    ['4 GiB further on', STRUCTURED, read, chunk(DATA, at(100n + 2n ** 32n, eight)), /outside/],
    ['2^63 bytes further on', STRUCTURED, read, chunk(DATA, at(100n + 2n ** 63n, eight)), /outside/],
    [
      'with an offset whose end overflows 2^64',
      STRUCTURED,
      read,
      chunk(DATA, at(2n ** 64n - 4n, eight)),
      /outside/,
    ],
    [
      'over the end of earlier data',
      STRUCTURED,
      read,
      bytesOf(two, chunk(DATA, at(103n, text('c')))),
      /overlaps/,
    ],
    [
      'over the beginning of earlier data',
      STRUCTURED,
      read,
      bytesOf(two, chunk(DATA, at(100n, text('abc')))),
      /overlaps/,
    ],
    ['over all of earlier data', STRUCTURED, read, bytesOf(two, chunk(DATA, at(100n, eight))), /overlaps/],
    ['sent twice', STRUCTURED, read, bytesOf(two, two), /overlaps/],
    [
      'over data that came in order',
      STRUCTURED,
      read,
      bytesOf(chunk(DATA, at(100n, text('abcd'))), chunk(DATA, at(103n, text('d')))),
      /overlaps/,
    ],
    ['in answer to a WRITE', STRUCTURED, write, chunk(DATA, at(100n, eight)), /not a READ/],
    ['in answer to a BLOCK_STATUS', STRUCTURED, status, chunk(DATA, at(0n, eight)), /not a READ/],
  ]);
});

describe('"Structured reply types": NBD_REPLY_TYPE_OFFSET_HOLE', () => {
  const hole = (offset: bigint, size: number): Uint8Array => chunk(HOLE, at(offset, u32(size)));
  refuses([
    ['of no bytes', STRUCTURED, read, hole(100n, 0), /length 0/],
    ['with a size of 64 bits', STRUCTURED, read, chunk(HOLE, at(100n, u64(8))), /has 16 bytes/],
    ['without a size', STRUCTURED, read, chunk(HOLE, u64(100n)), /has 8 bytes/],
    ['before the requested range', STRUCTURED, read, hole(99n, 8), /outside/],
    ['past the requested range', STRUCTURED, read, hole(100n, 9), /outside/],
    ['of 4 GiB', STRUCTURED, read, hole(100n, 0xffffffff), /outside/],
    ['with an offset whose end overflows 2^64', STRUCTURED, read, hole(2n ** 64n - 4n, 104), /outside/],
    [
      'over earlier data',
      STRUCTURED,
      read,
      bytesOf(chunk(DATA, at(104n, text('e'))), hole(100n, 8)),
      /overlaps/,
    ],
    ['over an earlier hole', STRUCTURED, read, bytesOf(hole(100n, 8), hole(107n, 1)), /overlaps/],
    ['in answer to a WRITE', STRUCTURED, write, hole(100n, 8), /not a READ/],
  ]);
});

describe('"Structured reply types": NBD_REPLY_TYPE_ERROR and other error chunks', () => {
  const message = (error: number, length: number, rest: Uint8Array | number[]): Uint8Array =>
    bytesOf(u32(error), u16(length), rest);
  const long = new Uint8Array(4097);
  refuses([
    ['without room for its numbers', STRUCTURED, write, chunk(ERROR, u32(5)), /error chunk has 4 bytes/],
    ['of nothing', STRUCTURED, write, chunk(ERROR), /error chunk has 0 bytes/],
    [
      'beyond the limit of strings',
      STRUCTURED,
      write,
      chunk(ERROR, [], { length: 5000 }),
      /error chunk has 5000/,
    ],
    [
      'that claims 4 GiB',
      STRUCTURED,
      write,
      chunk(ERROR, [], { length: 0xffffffff }),
      /error chunk has 4294967295/,
    ],
    ['that names no error', STRUCTURED, write, chunk(ERROR, message(0, 0, []), last), /names no error/],
    [
      'whose message is longer than the chunk',
      STRUCTURED,
      write,
      chunk(ERROR, message(5, 9, []), last),
      /miscounts/,
    ],
    [
      'whose message is shorter than the chunk',
      STRUCTURED,
      write,
      chunk(ERROR, message(5, 1, text('ab')), last),
      /miscounts/,
    ],
    [
      'whose message has 4097 bytes',
      STRUCTURED,
      write,
      chunk(ERROR, message(5, 4097, long), last),
      /has 4097 bytes/,
    ],
    [
      'an unknown type whose message is too long',
      STRUCTURED,
      write,
      chunk(0xffff, message(5, 1, []), last),
      /miscounts/,
    ],
    [
      'ERROR_OFFSET without an offset',
      STRUCTURED,
      read,
      chunk(ERROR_OFFSET, message(5, 0, []), last),
      /miscounts/,
    ],
    [
      'ERROR_OFFSET with half an offset',
      STRUCTURED,
      read,
      chunk(ERROR_OFFSET, message(5, 0, u32(100)), last),
      /miscounts/,
    ],
    [
      'ERROR_OFFSET before the request',
      STRUCTURED,
      read,
      chunk(ERROR_OFFSET, message(5, 0, u64(99)), last),
      /outside/,
    ],
    [
      'ERROR_OFFSET behind the request',
      STRUCTURED,
      read,
      chunk(ERROR_OFFSET, message(5, 0, u64(108)), last),
      /outside/,
    ],
    [
      'ERROR_OFFSET beyond 2^63',
      STRUCTURED,
      write,
      chunk(ERROR_OFFSET, message(5, 0, u64(2n ** 64n - 1n)), last),
      /outside/,
    ],
    [
      'an error that is followed by data out of bounds',
      STRUCTURED,
      read,
      bytesOf(chunk(ERROR, message(5, 0, [])), chunk(DATA, at(108n, eight))),
      /outside/,
    ],
  ]);
});

describe('"Structured reply types": unknown types', () => {
  refuses([
    ['without bit 15, empty', STRUCTURED, write, chunk(3, [], last), /unknown type 3/],
    ['without bit 15, with bytes', STRUCTURED, read, chunk(77, eight), /unknown type 77/],
    ['without bit 15, the largest', STRUCTURED, write, chunk(0x7fff, [], last), /unknown type 32767/],
  ]);
});

describe('"NBD_CMD_READ"', () => {
  const half = at(100n, text('1234'));
  refuses([
    ['bytes missing at the end', STRUCTURED, read, chunk(DATA, half, last), /answered with 4/],
    [
      'bytes missing in the middle',
      STRUCTURED,
      read,
      bytesOf(chunk(DATA, at(107n, text('8'))), chunk(DATA, half, last)),
      /answered with 5/,
    ],
    [
      'bytes missing before NBD_REPLY_TYPE_NONE',
      STRUCTURED,
      read,
      bytesOf(chunk(DATA, half), chunk(NONE, [], last)),
      /answered with 4/,
    ],
    [
      'a fragmented reply after NBD_CMD_FLAG_DF',
      STRUCTURED,
      unfragmented,
      bytesOf(chunk(DATA, half), chunk(DATA, at(104n, text('5678')))),
      /fragmented/,
    ],
    [
      'data and a hole after NBD_CMD_FLAG_DF',
      STRUCTURED,
      unfragmented,
      bytesOf(chunk(DATA, half), chunk(HOLE, at(104n, u32(4)))),
      /fragmented/,
    ],
    [
      'half of the data after NBD_CMD_FLAG_DF',
      STRUCTURED,
      unfragmented,
      chunk(DATA, half, last),
      /answered with 4/,
    ],
  ]);

  test('more separate parts than the limit', () => {
    for (const [way, run] of EVERY_WAY) {
      const recorder = new Recorder();
      recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 0n, 10_000));
      const pieces = Array.from({ length: 4097 }, (_, i) => chunk(DATA, at(BigInt(i * 2 + 1), [1])));
      expect(() => run(STRUCTURED, recorder, bytesOf(...pieces)), way).toThrow(
        /more than 4096 separate pieces/,
      );
    }
  });
});

describe('"NBD_CMD_BLOCK_STATUS"', () => {
  const one = bytesOf(u32(1), u32(4096), u32(0));
  refuses([
    ['for a READ', STRUCTURED, read, chunk(STATUS, one), /not a BLOCK_STATUS/],
    ['for a WRITE', STRUCTURED, write, chunk(STATUS, one), /not a BLOCK_STATUS/],
    ['without an extent', STRUCTURED, status, chunk(STATUS, u32(1)), /has 4 bytes/],
    ['of half an extent', STRUCTURED, status, chunk(STATUS, bytesOf(u32(1), u32(8))), /has 8 bytes/],
    ['of one and a half', STRUCTURED, status, chunk(STATUS, bytesOf(one, u32(8))), /has 16 bytes/],
    [
      'with an extent of no bytes',
      STRUCTURED,
      status,
      chunk(STATUS, bytesOf(one, u32(0), u32(3))),
      /length 0/,
    ],
    [
      'that claims 4 GiB',
      STRUCTURED,
      status,
      chunk(STATUS, [], { length: 0xfffffffc }),
      /has 4294967292 bytes/,
    ],
    [
      'twice for one context',
      STRUCTURED,
      status,
      bytesOf(chunk(STATUS, one), chunk(STATUS, one)),
      /twice for one metadata context/,
    ],
    [
      'of 64 bits without extended headers',
      STRUCTURED,
      status,
      chunk(STATUS_EXT, bytesOf(u32(1), u32(1), u64(8), u64(0))),
      /64-bit/,
    ],
    ['of 32 bits with extended headers', EXTENDED, status, extended(STATUS, one), /32-bit/],
  ]);
});

describe('"Extended reply chunk message"', () => {
  const wide = (count: number, extents: readonly (bigint | number)[]): Uint8Array =>
    bytesOf(u32(1), u32(count), ...extents.map(u64));
  refuses([
    [
      'that names another offset',
      EXTENDED,
      read,
      extended(NONE, [], { offset: 101n, ...last }),
      /another offset/,
    ],
    [
      'that names an offset 4 GiB further on',
      EXTENDED,
      read,
      extended(NONE, [], { offset: 100n + 2n ** 32n, ...last }),
      /another offset/,
    ],
    [
      'beyond 4 GiB',
      EXTENDED,
      read,
      hex`6e8a278c 0000 0001 0000000000000001 0000000000000064 0000000200000009`,
      /longer than 4 GiB/,
    ],
    [
      'where structured replies were agreed on',
      STRUCTURED,
      read,
      extended(NONE, [], last),
      /magic 0x6e8a278c/,
    ],
    [
      'with a cookie that is not in flight',
      EXTENDED,
      read,
      extended(NONE, [], { cookie: 3n, ...last }),
      /not in flight/,
    ],
    [
      'with data past the requested range',
      EXTENDED,
      read,
      extended(DATA, at(101n, eight), { offset: 100n }),
      /outside/,
    ],
    [
      'with bytes missing',
      EXTENDED,
      read,
      extended(DATA, at(100n, text('1')), { offset: 100n, ...last }),
      /answered with 1/,
    ],
    [
      'whose block status counts too many extents',
      EXTENDED,
      status,
      extended(STATUS_EXT, wide(2, [8, 0])),
      /miscounts/,
    ],
    [
      'whose block status counts too few extents',
      EXTENDED,
      status,
      extended(STATUS_EXT, wide(1, [8, 0, 8, 0])),
      /miscounts/,
    ],
    ['whose block status has no extent', EXTENDED, status, extended(STATUS_EXT, wide(0, [])), /has 8 bytes/],
    [
      'whose block status has an extent of no bytes',
      EXTENDED,
      status,
      extended(STATUS_EXT, wide(2, [2n ** 32n, 0, 0, 3])),
      /length 0/,
    ],
    [
      'whose block status comes twice for one context',
      EXTENDED,
      status,
      bytesOf(extended(STATUS_EXT, wide(1, [8, 0])), extended(STATUS_EXT, wide(1, [8, 0]), last)),
      /twice/,
    ],
    [
      'whose block status claims more than a million extents',
      EXTENDED,
      status,
      extended(STATUS_EXT, [], { length: 16 * 2 ** 20 + 24 }),
      /has 16777240 bytes/,
    ],
  ]);
});
