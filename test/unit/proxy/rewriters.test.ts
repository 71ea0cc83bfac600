// The proxy's changes to the bytes of a connection, however they are cut into chunks.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as c from '../../../src/nbd/constants.js';
import { parseProxyWords } from '../../../src/proxy/arguments.js';
import { ReplyRewriter } from '../../../src/proxy/replies.js';
import { RequestRewriter } from '../../../src/proxy/requests.js';

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function option(number: number, ...data: Buffer[]): Buffer {
  const all = Buffer.concat(data);
  return Buffer.concat([u64(c.NBD_OPTION_MAGIC), u32(number), u32(all.length), all]);
}
const named = (name: string, rest: Buffer): Buffer[] => [u32(name.length), Buffer.from(name), rest];

function request(flags: number, type: number, length: number): Buffer {
  return Buffer.concat([u32(c.NBD_REQUEST_MAGIC), u16(flags), u16(type), u64(7n), u64(0n), u32(length)]);
}
function extended(flags: number, type: number, length: number): Buffer {
  const magic = u32(c.NBD_EXTENDED_REQUEST_MAGIC);
  return Buffer.concat([magic, u16(flags), u16(type), u64(7n), u64(0n), u64(BigInt(length))]);
}
function reply(number: number, type: number, ...data: Buffer[]): Buffer {
  const all = Buffer.concat(data);
  return Buffer.concat([u64(c.NBD_OPTION_REPLY_MAGIC), u32(number), u32(type), u32(all.length), all]);
}

/** The bytes that come out of `take` for bytes that are cut at these places. */
function passed(take: (chunk: Buffer) => Buffer, bytes: Buffer, cuts: readonly number[]): Buffer {
  const places = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let at = 0;
  const out: Buffer[] = [];
  for (const place of places) {
    // The rewriter may change what it gets.
    out.push(Buffer.from(take(Buffer.from(bytes.subarray(at, place)))));
    at = place;
  }
  return Buffer.concat(out);
}

const CUTS = fc.array(fc.nat(), { maxLength: 20 });
/** A payload that looks like requests. */
const PAYLOAD = Buffer.concat([request(0, c.NBD_CMD_READ, 1), request(0, c.NBD_CMD_READ, 2)]);
const FLUSH = request(0, c.NBD_CMD_FLUSH, 0);

describe('requests through the proxy', () => {
  const before = [
    u32(3),
    option(c.NBD_OPT_STRUCTURED_REPLY),
    option(c.NBD_OPT_SET_META_CONTEXT, ...named('an image', u32(0))),
    option(c.NBD_OPT_GO, ...named('an image', u16(0))),
    request(0, c.NBD_CMD_READ, 4096),
    request(c.NBD_CMD_FLAG_FUA, c.NBD_CMD_WRITE, PAYLOAD.length),
    PAYLOAD,
    FLUSH,
    extended(0, c.NBD_CMD_READ, 4096),
    extended(c.NBD_CMD_FLAG_PAYLOAD_LEN, c.NBD_CMD_BLOCK_STATUS, PAYLOAD.length),
    PAYLOAD,
  ];
  const after = [
    u32(3),
    option(c.NBD_OPT_STRUCTURED_REPLY),
    option(c.NBD_OPT_SET_META_CONTEXT, ...named('', u32(0))),
    option(c.NBD_OPT_GO, ...named('', u16(0))),
    request(c.NBD_CMD_FLAG_DF, c.NBD_CMD_READ, 4096),
    request(c.NBD_CMD_FLAG_FUA, c.NBD_CMD_WRITE, PAYLOAD.length),
    PAYLOAD,
    FLUSH,
    extended(c.NBD_CMD_FLAG_DF, c.NBD_CMD_READ, 4096),
    extended(c.NBD_CMD_FLAG_PAYLOAD_LEN, c.NBD_CMD_BLOCK_STATUS, PAYLOAD.length),
    PAYLOAD,
  ];

  it('lose the name of the export, and ask for whole replies', () => {
    fc.assert(
      fc.property(CUTS, (cuts) => {
        const rewriter = new RequestRewriter();
        rewriter.canDf = true;
        const out = passed((chunk) => rewriter.take(chunk), Buffer.concat(before), cuts);
        expect(out.equals(Buffer.concat(after))).toBe(true);
      }),
    );
  });

  it('ask as they are where the server has no whole replies', () => {
    const rewriter = new RequestRewriter();
    const read = Buffer.concat([u32(3), request(0, c.NBD_CMD_READ, 1)]);
    expect(rewriter.take(Buffer.from(read)).equals(read)).toBe(true);
  });

  it('are refused when they are none, or too long', () => {
    expect(() => new RequestRewriter().take(Buffer.alloc(64))).toThrow('neither an option nor a request');
    const long = Buffer.concat([u32(3), u64(c.NBD_OPTION_MAGIC), u32(7), u32(2 ** 31)]);
    expect(() => new RequestRewriter().take(long)).toThrow('too long');
  });
});

describe('replies through the proxy', () => {
  const greeting = Buffer.concat([u64(c.NBD_MAGIC), u64(c.NBD_OPTION_MAGIC), u16(3)]);
  const described = (size: bigint): Buffer[] => [
    greeting,
    reply(c.NBD_OPT_STRUCTURED_REPLY, c.NBD_REP_ACK),
    reply(
      c.NBD_OPT_GO,
      c.NBD_REP_INFO,
      u16(c.NBD_INFO_EXPORT),
      u64(size),
      u16(c.NBD_FLAG_HAS_FLAGS | c.NBD_FLAG_SEND_DF),
    ),
    reply(c.NBD_OPT_GO, c.NBD_REP_ACK),
  ];
  const data = reply(c.NBD_OPT_GO, c.NBD_REP_INFO, u16(c.NBD_INFO_EXPORT), u64(9n), u16(0));

  it('show the size, and pass unchanged after the handshake', () => {
    fc.assert(
      fc.property(CUTS, (cuts) => {
        const rewriter = new ReplyRewriter(1000n);
        const bytes = Buffer.concat([...described(1024n), data]);
        const out = passed((chunk) => rewriter.take(chunk), bytes, cuts);
        expect(out.equals(Buffer.concat([...described(1000n), data]))).toBe(true);
        expect(rewriter.canDf).toBe(true);
      }),
    );
  });

  it('never show more than the server has', () => {
    const bytes = Buffer.concat(described(1024n));
    for (const size of [undefined, 2000n])
      expect(new ReplyRewriter(size).take(Buffer.from(bytes)).equals(bytes)).toBe(true);
  });

  it('show the size to a client of the old kind', () => {
    const bytes = (size: bigint): Buffer => Buffer.concat([greeting, u64(size), u16(1), Buffer.alloc(124)]);
    expect(new ReplyRewriter(1000n).take(bytes(1024n)).equals(bytes(1000n))).toBe(true);
  });
});

it('proxy: command line', () => {
  expect(parseProxyWords(['--size=5', '--run=a b', '--', 'server', '--'])).toEqual({
    server: ['server', '--'],
    size: 5n,
    run: 'a b',
  });
  for (const words of [[], ['--'], ['server'], ['--size=x', '--', 'server']])
    expect(() => parseProxyWords(words)).toThrow('usage: nbdfuse-proxy');
});
