// The reply receiver on hand-made streams: whole, byte by byte, and with every rule broken once.

import { describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
} from '../../src/nbd/constants.js';
import { NbdProtocolError } from '../../src/nbd/errors.js';
import { Asked, feed, Recorder } from '../helpers/reply-recorder.js';
import {
  bytesOf,
  extendedChunk,
  simpleReply,
  structuredChunk,
  u16,
  u32,
  u64,
} from '../helpers/reply-stream.js';

const SIMPLE = { structuredReplies: false, extendedHeaders: false };
const STRUCTURED = { structuredReplies: true, extendedHeaders: false };
const EXTENDED = { structuredReplies: true, extendedHeaders: true };
const DONE = 1;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const offsetData = (offset: bigint, data: Uint8Array): Uint8Array => bytesOf(u64(offset), data);

interface Case {
  readonly name: string;
  readonly format: typeof SIMPLE;
  readonly asked: readonly [bigint, Asked][];
  readonly stream: Uint8Array;
}

/** Runs a stream whole and byte by byte; a fresh recorder each. */
function both(make: () => Case, check: (recorder: Recorder, asked: Asked[]) => void): void {
  for (const byByte of [false, true]) {
    const { format, asked, stream } = make();
    const recorder = new Recorder();
    for (const [cookie, one] of asked) recorder.ask(cookie, one);
    feed(format, recorder, stream, byByte ? Array.from(stream, (_, i) => i) : []);
    check(
      recorder,
      asked.map(([, one]) => one),
    );
  }
}

describe('a reply that keeps the rules', () => {
  test('simple replies come in any order, with data only for READ and only without an error', () => {
    both(
      () => ({
        name: '',
        format: SIMPLE,
        asked: [
          [1n, new Asked(NBD_CMD_READ, 0n, 5)],
          [2n, new Asked(NBD_CMD_WRITE, 0n, 9)],
          [0x700000003n, new Asked(NBD_CMD_READ, 8n, 4)],
        ],
        stream: bytesOf(simpleReply(0x700000003n, 5), simpleReply(2n, 0), simpleReply(1n, 0, text('hello'))),
      }),
      (recorder, [first, second, third]) => {
        expect(recorder.finishedOnes).toEqual([third, second, first]);
        expect(third.result).toEqual({ error: 5, text: '' });
        expect(second.result).toEqual({ error: 0, text: '' });
        expect(Buffer.from(first.bytes).toString()).toBe('hello');
      },
    );
  });

  test('chunks of data and holes in any order make one READ, mixed with the chunks of another', () => {
    both(
      () => ({
        name: '',
        format: STRUCTURED,
        asked: [
          [1n, new Asked(NBD_CMD_READ, 0x1_0000_0000n, 12)],
          [2n, new Asked(NBD_CMD_READ, 0n, 3)],
        ],
        stream: bytesOf(
          structuredChunk({ cookie: 1n, type: 1, payload: offsetData(0x1_0000_0008n, text('tail')) }),
          structuredChunk({ cookie: 2n, type: 1, flags: DONE, payload: offsetData(0n, text('two')) }),
          structuredChunk({ cookie: 1n, type: 2, payload: bytesOf(u64(0x1_0000_0004n), u32(4)) }),
          structuredChunk({ cookie: 1n, type: 1, payload: offsetData(0x1_0000_0000n, text('head')) }),
          structuredChunk({ cookie: 1n, type: 0, flags: DONE }),
        ),
      }),
      (recorder, [first, second]) => {
        expect(recorder.finishedOnes).toEqual([second, first]);
        expect(Buffer.from(first.bytes).toString()).toBe('head\0\0\0\0tail');
        expect(first.result).toEqual({ error: 0, text: '' });
      },
    );
  });

  test('an error chunk fails its request alone, with what the server said', () => {
    both(
      () => ({
        name: '',
        format: STRUCTURED,
        asked: [[1n, new Asked(NBD_CMD_READ, 0n, 8)]],
        stream: bytesOf(
          structuredChunk({ cookie: 1n, type: 1, payload: offsetData(0n, text('1234')) }),
          structuredChunk({
            cookie: 1n,
            type: 0x8002,
            flags: DONE,
            payload: bytesOf(u32(5), u16(3), text('bad'), u64(4n)),
          }),
        ),
      }),
      (_recorder, [asked]) => expect(asked.result).toEqual({ error: 5, text: 'bad' }),
    );
  });

  test('an unknown chunk type with the error bit is an error', () => {
    both(
      () => ({
        name: '',
        format: STRUCTURED,
        asked: [[1n, new Asked(NBD_CMD_WRITE, 0n, 8)]],
        stream: structuredChunk({
          cookie: 1n,
          type: 0x8123,
          flags: DONE,
          payload: bytesOf(u32(28), u16(0), [9, 9]),
        }),
      }),
      (_recorder, [asked]) => expect(asked.result).toEqual({ error: 28, text: '' }),
    );
  });

  test('block status of several contexts, in 32 and in 64 bits', () => {
    const status = bytesOf(u32(7), u32(4096), u32(3), u32(512), u32(0));
    both(
      () => ({
        name: '',
        format: STRUCTURED,
        asked: [[1n, new Asked(NBD_CMD_BLOCK_STATUS, 0n, 4608)]],
        stream: bytesOf(
          structuredChunk({ cookie: 1n, type: 5, payload: status }),
          structuredChunk({ cookie: 1n, type: 5, flags: DONE, payload: bytesOf(u32(8), u32(1), u32(0)) }),
        ),
      }),
      (_recorder, [asked]) => expect(asked.extents).toEqual([7, 4096, 3, 512, 0, 8, 1, 0]),
    );
    both(
      () => ({
        name: '',
        format: EXTENDED,
        asked: [[1n, new Asked(NBD_CMD_BLOCK_STATUS, 0n, 2 ** 40)]],
        stream: extendedChunk({
          cookie: 1n,
          type: 6,
          flags: DONE,
          payload: bytesOf(u32(7), u32(1), u64(2n ** 40n), u64(3n)),
        }),
      }),
      (_recorder, [asked]) => expect(asked.extents).toEqual([7, 2 ** 40, 3]),
    );
  });
});

describe('a reply that breaks a rule ends the connection', () => {
  const read = (): [bigint, Asked][] => [[1n, new Asked(NBD_CMD_READ, 100n, 8)]];
  const write = (): [bigint, Asked][] => [[1n, new Asked(NBD_CMD_WRITE, 100n, 8)]];
  const status = (): [bigint, Asked][] => [[1n, new Asked(NBD_CMD_BLOCK_STATUS, 100n, 8)]];
  const eight = text('12345678');
  const table: readonly [string, typeof SIMPLE, () => [bigint, Asked][], Uint8Array, RegExp][] = [
    ['wrong magic', SIMPLE, read, bytesOf([1, 2, 3, 4], new Uint8Array(28)), /magic 0x1020304/],
    ['a cookie that is not in flight', SIMPLE, read, simpleReply(2n, 0), /cookie .* not in flight/],
    ['a cookie of another generation', SIMPLE, read, simpleReply(0x100000001n, 0), /not in flight/],
    [
      'a chunk that was not agreed on',
      SIMPLE,
      read,
      structuredChunk({ cookie: 1n, type: 0, flags: DONE }),
      /magic/,
    ],
    [
      'a simple reply to READ after structured replies were agreed on',
      STRUCTURED,
      read,
      simpleReply(1n, 0, eight),
      /simple reply/,
    ],
    [
      'a simple reply among extended ones',
      EXTENDED,
      read,
      bytesOf(simpleReply(1n, 0, eight), eight),
      /magic/,
    ],
    [
      'more data than asked for',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, payload: offsetData(100n, text('123456789')) }),
      /17 bytes/,
    ],
    [
      'a chunk that claims 4 GiB',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, length: 0xffffffff }),
      /4294967295 bytes/,
    ],
    [
      'data before what was asked for',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, payload: offsetData(99n, eight) }),
      /outside/,
    ],
    [
      'data past what was asked for',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, payload: offsetData(101n, eight) }),
      /outside/,
    ],
    [
      'an offset that overflows',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, payload: offsetData(2n ** 64n - 4n, eight) }),
      /outside/,
    ],
    [
      'a hole past what was asked for',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 2, payload: bytesOf(u64(100n), u32(9)) }),
      /outside/,
    ],
    [
      'a hole of no bytes',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 2, payload: bytesOf(u64(100n), u32(0)) }),
      /no bytes/,
    ],
    [
      'data of no bytes',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, payload: u64(100n) as unknown as Uint8Array }),
      /8 bytes/,
    ],
    [
      'bytes told twice',
      STRUCTURED,
      read,
      bytesOf(
        structuredChunk({ cookie: 1n, type: 1, payload: offsetData(102n, text('ab')) }),
        structuredChunk({ cookie: 1n, type: 1, payload: offsetData(103n, text('c')) }),
      ),
      /overlaps/,
    ],
    [
      'bytes missing at the end',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 1, flags: DONE, payload: offsetData(100n, text('1234')) }),
      /answered with 4/,
    ],
    [
      'NBD_REPLY_TYPE_NONE with bytes',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0, flags: DONE, payload: eight }),
      /carries bytes/,
    ],
    [
      'NBD_REPLY_TYPE_NONE that is not the last',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0 }),
      /not the last/,
    ],
    [
      'data for a WRITE',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 1, payload: offsetData(100n, eight) }),
      /no READ/,
    ],
    [
      'an unknown chunk type',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 77, flags: DONE }),
      /unknown type 77/,
    ],
    [
      'an error chunk without room for its numbers',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0x8001, payload: u32(5) as unknown as Uint8Array }),
      /error chunk has 4/,
    ],
    [
      'an error chunk beyond the limit of strings',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0x8001, length: 5000 }),
      /error chunk has 5000/,
    ],
    [
      'an error of nothing',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0x8001, flags: DONE, payload: bytesOf(u32(0), u16(0)) }),
      /names no error/,
    ],
    [
      'an error message longer than its chunk',
      STRUCTURED,
      write,
      structuredChunk({ cookie: 1n, type: 0x8001, flags: DONE, payload: bytesOf(u32(5), u16(9)) }),
      /miscounts/,
    ],
    [
      'an error at an offset that was not asked about',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 0x8002, flags: DONE, payload: bytesOf(u32(5), u16(0), u64(108n)) }),
      /outside/,
    ],
    [
      'block status for a READ',
      STRUCTURED,
      read,
      structuredChunk({ cookie: 1n, type: 5, payload: bytesOf(u32(1), u32(8), u32(0)) }),
      /no BLOCK_STATUS/,
    ],
    [
      '64-bit block status without extended headers',
      STRUCTURED,
      status,
      structuredChunk({ cookie: 1n, type: 6, payload: bytesOf(u32(1), u32(1), u64(8), u64(0)) }),
      /64-bit/,
    ],
    [
      'block status of half an extent',
      STRUCTURED,
      status,
      structuredChunk({ cookie: 1n, type: 5, payload: bytesOf(u32(1), u32(8)) }),
      /8 bytes/,
    ],
    [
      'block status without extents',
      STRUCTURED,
      status,
      structuredChunk({ cookie: 1n, type: 0, flags: DONE }),
      /without extents/,
    ],
    [
      'an extended reply that names another offset',
      EXTENDED,
      read,
      extendedChunk({ cookie: 1n, type: 0, flags: DONE, offset: 101n }),
      /offset other/,
    ],
    [
      'an extended chunk beyond 4 GiB',
      EXTENDED,
      read,
      bytesOf([0x6e, 0x8a, 0x27, 0x8c], u16(0), u16(1), u64(1n), u64(100n), u64(2n ** 33n)),
      /longer than 4 GiB/,
    ],
  ];
  for (const [name, format, asked, stream, rule] of table) {
    test(name, () => {
      for (const byByte of [false, true]) {
        const recorder = new Recorder();
        for (const [cookie, one] of asked()) recorder.ask(cookie, one);
        const run = (): void => feed(format, recorder, stream, byByte ? Array.from(stream, (_, i) => i) : []);
        expect(run).toThrow(NbdProtocolError);
        const again = new Recorder();
        for (const [cookie, one] of asked()) again.ask(cookie, one);
        expect(() => feed(format, again, stream, [])).toThrow(rule);
      }
    });
  }

  test('a fragmented reply after NBD_CMD_FLAG_DF', () => {
    const recorder = new Recorder();
    recorder.ask(1n, new Asked(NBD_CMD_READ, 0n, 8, NBD_CMD_FLAG_DF));
    const half = structuredChunk({ cookie: 1n, type: 1, payload: offsetData(0n, text('1234')) });
    expect(() => feed(STRUCTURED, recorder, half, [])).toThrow(/fragmented/);
  });
});
