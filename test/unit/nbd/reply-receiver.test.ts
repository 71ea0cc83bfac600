// The reply receiver on streams that keep the rules, each run whole, cut in every way, and placed.

import { describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
} from '../../../src/nbd/constants.js';
import type { ReplyFormat } from '../../../src/nbd/transmission/reply.js';
import { ReplyReceiver } from '../../../src/nbd/transmission/reply-receiver.js';
import { hex } from '../../support/hex.js';
import {
  EVERY_WAY,
  EXTENDED,
  feed,
  RecordedRequest,
  Recorder,
  SIMPLE,
  STRUCTURED,
} from '../../support/reply-recorder.js';
import { bytesOf, structuredChunk, u16, u32 } from '../../support/reply-stream.js';

const DONE = 1;

/** One request: cookie, command, offset, bytes, flags. */
type Question = readonly [bigint, number, bigint, number, number?];

/** Runs a stream in every way, each with fresh requests, and lets `check` look at them. */
function everyWay(
  format: ReplyFormat,
  questions: readonly Question[],
  stream: Uint8Array,
  check: (recorded: RecordedRequest[], recorder: Recorder) => void,
): void {
  for (const [way, run] of EVERY_WAY) {
    const recorder = new Recorder();
    const recorded = questions.map(([cookie, type, offset, length, flags]) =>
      recorder.ask(cookie, new RecordedRequest(type, offset, length, flags)),
    );
    expect(run(format, recorder, stream).idle, way).toBe(true);
    check(recorded, recorder);
  }
}

const textOf = (recorded: RecordedRequest): string => Buffer.from(recorded.bytes).toString();

describe('proto.md, "Simple reply message"', () => {
  test('replies come in any order, with data only for READ and only without an error', () => {
    const stream = hex`
      67446698         | NBD_SIMPLE_REPLY_MAGIC
      00000005         | error NBD_EIO
      0000000700000003 | cookie of the second READ
      67446698         | NBD_SIMPLE_REPLY_MAGIC
      00000000         | no error
      0000000000000002 | cookie of the WRITE
      67446698         | NBD_SIMPLE_REPLY_MAGIC
      00000000         | no error
      0000000000000001 | cookie of the first READ
      "hello"          | data`;
    const questions: Question[] = [
      [1n, NBD_CMD_READ, 0n, 5],
      [2n, NBD_CMD_WRITE, 0n, 9],
      [0x700000003n, NBD_CMD_READ, 8n, 4],
    ];
    everyWay(SIMPLE, questions, stream, ([first, second, third], recorder) => {
      expect(recorder.finishedOnes).toEqual([third, second, first]);
      expect(third.result).toEqual({ error: 5, text: '' });
      expect(third.bytes).toEqual(new Uint8Array(4).fill(0xee));
      expect(second.result).toEqual({ error: 0, text: '' });
      expect(first.result).toEqual({ error: 0, text: '' });
      expect(textOf(first)).toBe('hello');
    });
  });

  test('a cookie may be reused once its reply is complete', () => {
    const stream = hex`67446698 00000000 0000000000000001 "ab" 67446698 00000000 0000000000000001 "cd"`;
    for (const [, run] of EVERY_WAY) {
      const recorder = new Recorder();
      const first = recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 0n, 2));
      const next = new RecordedRequest(NBD_CMD_READ, 2n, 2);
      const finished = recorder.finished.bind(recorder);
      recorder.finished = (recorded, error, text) => {
        finished(recorded, error, text);
        if (recorded === first) recorder.ask(1n, next);
      };
      run(SIMPLE, recorder, stream);
      expect([textOf(first), textOf(next)]).toEqual(['ab', 'cd']);
    }
  });

  test('after structured replies were negotiated, all but READ may still get simple replies', () => {
    const stream = hex`
      67446698         | NBD_SIMPLE_REPLY_MAGIC
      00000000         | no error
      0000000000000001 | cookie of the FLUSH
      67446698         | NBD_SIMPLE_REPLY_MAGIC
      00000016         | error NBD_EINVAL
      0000000000000002 | cookie of the BLOCK_STATUS
      668e33ef         | NBD_STRUCTURED_REPLY_MAGIC
      0001             | NBD_REPLY_FLAG_DONE
      0000             | NBD_REPLY_TYPE_NONE
      0000000000000003 | cookie of the WRITE
      00000000         | length`;
    const questions: Question[] = [
      [1n, NBD_CMD_FLUSH, 0n, 0],
      [2n, NBD_CMD_BLOCK_STATUS, 0n, 512],
      [3n, NBD_CMD_WRITE, 0n, 512],
    ];
    everyWay(STRUCTURED, questions, stream, (recorded) =>
      expect(recorded.map((one) => one.result?.error)).toEqual([0, 22, 0]),
    );
  });
});

describe('proto.md, "Structured reply chunk message"', () => {
  test('chunks of data and holes in any order make one READ, mixed with the chunks of another', () => {
    const stream = hex`
      668e33ef 0000 0001 0000000000000001 0000000c | NBD_REPLY_TYPE_OFFSET_DATA, 12 bytes
      0000000100000008                             | offset
      "tail"                                       | data
      668e33ef 0001 0001 0000000000000002 0000000b | of the other, NBD_REPLY_FLAG_DONE
      0000000000000000                             | offset
      "two"                                        | data
      668e33ef 0000 0002 0000000000000001 0000000c | NBD_REPLY_TYPE_OFFSET_HOLE
      0000000100000004                             | offset
      00000004                                     | hole size
      668e33ef 0000 0001 0000000000000001 0000000c | NBD_REPLY_TYPE_OFFSET_DATA
      0000000100000000                             | offset
      "head"                                       | data
      668e33ef 0001 0000 0000000000000001 00000000 | NBD_REPLY_TYPE_NONE, NBD_REPLY_FLAG_DONE`;
    const questions: Question[] = [
      [1n, NBD_CMD_READ, 0x1_0000_0000n, 12],
      [2n, NBD_CMD_READ, 0n, 3],
    ];
    everyWay(STRUCTURED, questions, stream, ([first, second], recorder) => {
      expect(recorder.finishedOnes).toEqual([second, first]);
      expect(textOf(first)).toBe('head\0\0\0\0tail');
      expect(textOf(second)).toBe('two');
      expect(first.result).toEqual({ error: 0, text: '' });
    });
  });

  test('unknown flags are ignored', () => {
    const stream = hex`668e33ef fffe 0001 0000000000000001 00000009 0000000000000000 "x"
                       668e33ef ffff 0000 0000000000000001 00000000`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_READ, 0n, 1]], stream, ([recorded]) =>
      expect(textOf(recorded)).toBe('x'),
    );
  });

  test('with NBD_CMD_FLAG_DF one content chunk, data or a hole, and a separate end', () => {
    const questions: Question[] = [
      [1n, NBD_CMD_READ, 0n, 2, NBD_CMD_FLAG_DF],
      [2n, NBD_CMD_READ, 0n, 2, NBD_CMD_FLAG_DF],
    ];
    const stream = hex`
      668e33ef 0000 0001 0000000000000001 0000000a 0000000000000000 "ab" | data
      668e33ef 0001 0002 0000000000000002 0000000c 0000000000000000 00000002 | hole, the last
      668e33ef 0001 0000 0000000000000001 00000000 | end of the first`;
    everyWay(STRUCTURED, questions, stream, ([data, hole]) => {
      expect(textOf(data)).toBe('ab');
      expect(textOf(hole)).toBe('\0\0');
    });
  });

  test('with NBD_CMD_FLAG_DF an error may follow a part of the data', () => {
    const stream = hex`
      668e33ef 0000 0001 0000000000000001 0000000a 0000000000000000 "ab" | half of the requested data
      668e33ef 0001 8002 0000000000000001 0000000e 00000005 0000 0000000000000002 | NBD_EIO there`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_READ, 0n, 4, NBD_CMD_FLAG_DF]], stream, ([recorded]) =>
      expect(recorded.result).toEqual({ error: 5, text: '' }),
    );
  });
});

describe('proto.md, "Structured reply types": error chunks', () => {
  test('NBD_REPLY_TYPE_ERROR_OFFSET fails its request alone, with the message of the server', () => {
    const stream = hex`
      668e33ef 0000 0001 0000000000000001 0000000c 0000000000000000 "1234" | data
      668e33ef 0001 8002 0000000000000001 00000011                         | NBD_REPLY_TYPE_ERROR_OFFSET
      00000005                                                             | NBD_EIO
      0003 "bad"                                                           | message
      0000000000000004                                                     | offset
      668e33ef 0001 0001 0000000000000002 00000009 0000000000000000 "x"    | the other is whole`;
    const questions: Question[] = [
      [1n, NBD_CMD_READ, 0n, 8],
      [2n, NBD_CMD_READ, 0n, 1],
    ];
    everyWay(STRUCTURED, questions, stream, ([failed, fine]) => {
      expect(failed.result).toEqual({ error: 5, text: 'bad' });
      expect(fine.result).toEqual({ error: 0, text: '' });
    });
  });

  test('data and further errors may follow an error; the first one counts', () => {
    const stream = hex`
      668e33ef 0000 8002 0000000000000001 00000011 0000001c 0003 "one" 0000000000000000
      668e33ef 0000 0001 0000000000000001 0000000b 0000000000000001 "abc"
      668e33ef 0000 8002 0000000000000001 00000011 00000005 0003 "two" 0000000000000000
      668e33ef 0001 0000 0000000000000001 00000000`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_READ, 0n, 4]], stream, ([recorded]) =>
      expect(recorded.result).toEqual({ error: 28, text: 'one' }),
    );
  });

  test('after an error, data for the whole request are no success', () => {
    const stream = hex`
      668e33ef 0000 8001 0000000000000001 00000006 00000005 0000
      668e33ef 0001 0001 0000000000000001 0000000a 0000000000000000 "ab"`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_READ, 0n, 2]], stream, ([recorded]) =>
      expect(recorded.result).toEqual({ error: 5, text: '' }),
    );
  });

  test('an unknown type with bit 15 is an error, whatever follows its message', () => {
    const stream = hex`
      668e33ef 0001 8123 0000000000000001 0000000a
      0000001c                                     | NBD_ENOSPC
      0002 "no"                                    | message
      0909                                         | what only this type knows`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_WRITE, 0n, 8]], stream, ([recorded]) =>
      expect(recorded.result).toEqual({ error: 28, text: 'no' }),
    );
  });

  test('a message of 4096 bytes arrives whole', () => {
    const message = new Uint8Array(4096).fill(0x61);
    for (const type of [0x8001, 0x8002]) {
      const offset = new Uint8Array(type === 0x8002 ? 8 : 0);
      const payload = bytesOf(u32(1), u16(4096), message, offset);
      const stream = structuredChunk({ cookie: 1n, type, flags: DONE, payload });
      everyWay(STRUCTURED, [[1n, NBD_CMD_WRITE, 0n, 8]], stream, ([recorded]) =>
        expect(recorded.result).toEqual({ error: 1, text: 'a'.repeat(4096) }),
      );
    }
  });

  test('a message that is not UTF-8 arrives with replacement characters', () => {
    const stream = hex`668e33ef 0001 8001 0000000000000001 00000009 00000005 0003 61ff62`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_FLUSH, 0n, 0]], stream, ([recorded]) =>
      expect(recorded.result).toEqual({ error: 5, text: 'a\ufffdb' }),
    );
  });
});

describe('proto.md, "NBD_CMD_BLOCK_STATUS"', () => {
  test('NBD_REPLY_TYPE_BLOCK_STATUS: one chunk for each of several contexts, in any order', () => {
    const stream = hex`
      668e33ef 0000 0005 0000000000000001 00000014 | NBD_REPLY_TYPE_BLOCK_STATUS
      00000007                                     | metadata context ID
      00001000 00000003                            | length, status flags
      00000200 00000000                            | length, status flags
      668e33ef 0001 0005 0000000000000001 0000000c | the other context, and the last
      00000006                                     | metadata context ID
      ffffffff 80000001                            | length beyond the requested range, status flags`;
    everyWay(STRUCTURED, [[1n, NBD_CMD_BLOCK_STATUS, 0n, 4608]], stream, ([recorded]) => {
      expect(recorded.extents).toEqual([7, 4096, 3, 512, 0, 6, 0xffffffff, 0x80000001]);
      expect(recorded.result).toEqual({ error: 0, text: '' });
    });
  });

  test('NBD_REPLY_TYPE_BLOCK_STATUS_EXT: lengths and flags of 64 bits', () => {
    const stream = hex`
      6e8a278c         | NBD_EXTENDED_REPLY_MAGIC
      0001             | NBD_REPLY_FLAG_DONE
      0006             | NBD_REPLY_TYPE_BLOCK_STATUS_EXT
      0000000000000001 | cookie
      0000020000000000 | offset
      0000000000000028 | length
      00000007         | metadata context ID
      00000002         | descriptor count
      0000010000000000 | length
      0000000000000003 | status flags
      0000000000000200 | length
      0000000200000001 | status flags`;
    everyWay(EXTENDED, [[1n, NBD_CMD_BLOCK_STATUS, 2n ** 41n, 2 ** 40]], stream, ([recorded]) =>
      expect(recorded.extents).toEqual([7, 2 ** 40, 3, 512, 2 ** 33 + 1]),
    );
  });
});

test('proto.md, "Extended reply chunk message": every reply has 32 bytes of header', () => {
  const stream = hex`
    6e8a278c         | NBD_EXTENDED_REPLY_MAGIC
    0000             | flags
    0001             | NBD_REPLY_TYPE_OFFSET_DATA
    0102030405060708 | cookie
    7ffffffffffff000 | offset of the request
    000000000000000a | length
    7ffffffffffff002 | offset of the data
    "cd"             | data
    6e8a278c 0001 0000 0000000000000002 0000000000000000 0000000000000000 | the FLUSH
    6e8a278c         | NBD_EXTENDED_REPLY_MAGIC
    0001             | NBD_REPLY_FLAG_DONE
    0001             | NBD_REPLY_TYPE_OFFSET_DATA
    0102030405060708 | cookie
    7ffffffffffff000 | offset of the request
    000000000000000a | length
    7ffffffffffff000 | offset of the data
    "ab"             | data`;
  const questions: Question[] = [
    [0x0102030405060708n, NBD_CMD_READ, 0x7ffffffffffff000n, 4],
    [2n, NBD_CMD_FLUSH, 0n, 0],
  ];
  everyWay(EXTENDED, questions, stream, ([read, flush], recorder) => {
    expect(textOf(read)).toBe('abcd');
    expect(recorder.finishedOnes).toEqual([flush, read]);
  });
});

describe('reply receiver results', () => {
  test('have a payload in one call if it arrives whole behind its header', () => {
    const given: string[] = [];
    class Watched extends Recorder {
      override data(...all: Parameters<Recorder['data']>): void {
        given.push('some');
        super.data(...all);
      }
      override wholeData(...all: Parameters<Recorder['wholeData']>): void {
        super.wholeData(...all);
        given.push('all');
      }
    }
    const recorder = new Watched();
    const stream = hex`67446698 00000000 0000000000000001 "abcd"`;
    recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 0n, 4));
    feed(SIMPLE, recorder, stream, []);
    recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 0n, 4));
    feed(SIMPLE, recorder, stream, [18]);
    expect(given).toEqual(['some', 'all', 'some', 'some']);
  });

  test('have the place of the next bytes: first the header, then the payload and its request', () => {
    const recorder = new Recorder();
    const recorded = recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 16n, 6));
    const receiver = new ReplyReceiver<RecordedRequest>(STRUCTURED, recorder);
    expect(receiver).toMatchObject({ idle: true, headerPending: 16, payloadPending: 0 });
    const header = hex`668e33ef 0001 0001 0000000000000001 0000000a 0000000000000012 | 2 bytes further on`;
    receiver.receive(header, 0, 16);
    expect(receiver).toMatchObject({ idle: false, headerPending: 4, payloadPending: 0 });
    receiver.receive(header, 16, 20);
    expect(receiver).toMatchObject({ idle: false, headerPending: 8, payloadPending: 0 });
    receiver.receive(header, 20, 28);
    expect(receiver).toMatchObject({
      headerPending: 0,
      payloadPending: 2,
      payloadRequest: recorded,
      payloadAt: 2,
      payloadWhole: false,
    });
    receiver.receive(hex`"x"`, 0, 1);
    expect(receiver).toMatchObject({ payloadPending: 1, payloadAt: 3 });
    expect(() => receiver.landed(1)).toThrow(/answered with 2/);
  });

  test('a stream that ends in a reply is not idle', () => {
    const stream = hex`67446698 00000000 0000000000000001 "abcd"`;
    for (let length = 0; length <= stream.length; length++) {
      const recorder = new Recorder();
      recorder.ask(1n, new RecordedRequest(NBD_CMD_READ, 0n, 4));
      const { idle } = feed(SIMPLE, recorder, stream.subarray(0, length), []);
      expect(idle, `${length} bytes`).toBe(length === 0 || length === stream.length);
    }
  });
});
