// The reply receiver against a fake server, for requests that the test case chooses.
//
// Byte 0 chooses the kind of replies, the meaning of the rest and the sizes in which it arrives; byte 1 is
// the number of requests in flight, which have five bytes each. The rest is the server's stream: either raw
// bytes, or instructions for chunks, which name requests in flight more often than random bytes would. The
// results must be those of a naive reading of the rules on the same stream.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
} from '../../../src/nbd/constants.js';
import { NbdProtocolError } from '../../../src/nbd/errors.js';
import type { ReplyFormat } from '../../../src/nbd/transmission/reply.js';
import { type NaiveRequest, readNaively } from '../../../test/support/naive-receiver.js';
import {
  EXTENDED,
  feed,
  feedPlacing,
  RecordedRequest,
  Recorder,
  SIMPLE,
  STRUCTURED,
} from '../../../test/support/reply-recorder.js';
import { expectedError, promise } from '../finding.js';
import { Input } from '../input.js';
import { makeStream } from '../reply-stream.js';

const FORMATS = [SIMPLE, STRUCTURED, EXTENDED, STRUCTURED];
const TYPES = [NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE];
const LENGTHS = [512, 1, 8, 4096, 1000, 100, 0, 2];
/** High halves of offsets: the boundaries of 32, 53 and 63 bits among them. */
const HIGHS = [0n, 1n, 0x1fffffn, 0x7fffffffn];
const LOWS = [0n, 512n, 0xfffffe00n, 0xffffffffn, 4096n];

const MOST_BYTES = 20_000;

/** The requests in flight, by their cookies, which are 0, 1, 2, … as in the recorded sessions. */
export function requestsOf(input: Input): Map<bigint, NaiveRequest> {
  const requests = new Map<bigint, NaiveRequest>();
  const count = 1 + (input.u8() & 7);
  for (let i = 0; i < count; i++) {
    const kind = input.u8();
    const type = TYPES[kind & 3];
    const flags = type === NBD_CMD_READ && (kind & 4) !== 0 ? NBD_CMD_FLAG_DF : 0;
    const length = input.pick(LENGTHS) + (kind >> 4);
    const offset = (input.pick(HIGHS) << 32n) + input.pick(LOWS) + BigInt(input.u8());
    requests.set(BigInt(i), {
      type,
      flags,
      offset,
      length: type === NBD_CMD_READ ? Math.max(length, 1) : length,
    });
  }
  return requests;
}

interface Outcome {
  readonly recorded: ReadonlyMap<bigint, RecordedRequest>;
  readonly breach: string | undefined;
}

type Feed = (format: ReplyFormat, recorder: Recorder, stream: Uint8Array) => unknown;

function receive(
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  stream: Uint8Array,
  how: Feed,
): Outcome {
  const recorder = new Recorder();
  const recorded = new Map<bigint, RecordedRequest>();
  for (const [cookie, { type, flags, offset, length }] of requests)
    recorded.set(cookie, recorder.ask(cookie, new RecordedRequest(type, offset, length, flags)));
  try {
    how(format, recorder, stream);
    return { recorded, breach: undefined };
  } catch (error) {
    const breach = expectedError(error);
    promise(breach instanceof NbdProtocolError, `a breach that is a ${breach.name}`);
    return { recorded, breach: breach.message };
  }
}

/** Compares an outcome with a naive reading, as far as both go. */
function compare({ recorded, breach }: Outcome, naive: ReturnType<typeof readNaively>): void {
  promise(
    (breach !== undefined) === naive.breach,
    `${breach ?? 'no breach'}, but read naively: ${naive.breach}`,
  );
  for (const [cookie, one] of recorded) {
    const reply = naive.replies.get(cookie);
    promise(
      one.result?.error === reply?.error,
      `request ${cookie} ended with ${one.result?.error}, not ${reply?.error}`,
    );
    promise(Buffer.byteLength(one.result?.text ?? '') <= 3 * 4096, 'the text of an error is too long');
    if (reply?.error !== 0) continue;
    promise(Buffer.compare(one.bytes, reply.bytes) === 0, `wrong bytes for request ${cookie}`);
    const numbers = [...reply.extents].flatMap(([context, extents]) => [context, ...extents.map(Number)]);
    promise(numbers.join() === one.extents.join(), `wrong extents for request ${cookie}`);
  }
}

export function fuzz(data: Buffer): void {
  const input = new Input(data);
  const choice = input.u8();
  const format = FORMATS[choice & 3];
  const requests = requestsOf(input);
  const stream = (choice & 4) !== 0 ? input.rest() : makeStream(input, format, requests, MOST_BYTES);
  const piece = (choice >> 3) + (stream.length < 500 ? 1 : 61);
  const naive = readNaively(format, requests, stream);
  const ends = Array.from({ length: Math.ceil(stream.length / piece) }, (_, i) => (i + 1) * piece);
  const ways: Feed[] = [
    (...args) => feed(...args, []),
    (...args) => feed(...args, ends),
    (...args) => feedPlacing(...args, 1 << 20),
    (...args) => feedPlacing(...args, piece),
  ];
  if (stream.length < 500) ways.push((...args) => feed(...args, [...stream.keys()]));
  const outcomes = ways.map((way) => receive(format, requests, stream, way));
  for (const outcome of outcomes) {
    compare(outcome, naive);
    promise(
      outcome.breach === outcomes[0].breach,
      `${outcome.breach} or ${outcomes[0].breach}, by the pieces`,
    );
  }
}
