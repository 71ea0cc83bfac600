// Requests as proto.md lays them out.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeRequest } from '../../../src/nbd/transmission/request.js';
import { hex } from '../../support/hex.js';

const REQUEST = {
  flags: 0x0001,
  type: 6,
  cookieHi: 0x01020304,
  cookieLo: 0x05060708,
  offsetHi: 0x7fffffff,
  offsetLo: 0xfffffe00,
};

describe('proto.md, "Request message"', () => {
  test('a compact request is 28 bytes in network byte order', () => {
    const view = new DataView(new ArrayBuffer(40));
    expect(encodeRequest(view, 4, false, { ...REQUEST, length: 0x200 })).toBe(28);
    expect(new Uint8Array(view.buffer)).toEqual(hex`
      00*4             | before it
      25609513         | NBD_REQUEST_MAGIC
      0001             | command flags: NBD_CMD_FLAG_FUA
      0006             | type: NBD_CMD_WRITE_ZEROES
      0102030405060708 | cookie
      7ffffffffffffe00 | offset
      00000200         | length
      00*8             | behind it`);
  });

  test('the largest length of a compact request is 2^32-1', () => {
    const view = new DataView(new ArrayBuffer(28));
    encodeRequest(view, 0, false, { ...REQUEST, length: 2 ** 32 - 1 });
    expect(new Uint8Array(view.buffer, 24)).toEqual(hex`ffffffff | length`);
  });
});

describe('proto.md, "Extended request message"', () => {
  test('an extended request is 32 bytes, with a length of 64 bits', () => {
    const view = new DataView(new ArrayBuffer(32));
    expect(encodeRequest(view, 0, true, { ...REQUEST, length: 3 * 2 ** 32 + 5 })).toBe(32);
    expect(new Uint8Array(view.buffer)).toEqual(hex`
      21e41c71         | NBD_EXTENDED_REQUEST_MAGIC
      0001             | command flags
      0006             | type
      0102030405060708 | cookie
      7ffffffffffffe00 | offset
      0000000300000005 | length`);
  });

  test('a WRITE, and nothing else, marks its length as that of a payload', () => {
    const flagsOf = (type: number, extended: boolean): number => {
      const view = new DataView(new ArrayBuffer(32));
      encodeRequest(view, 0, extended, { ...REQUEST, type, length: 512 });
      return view.getUint16(4);
    };
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((type) => flagsOf(type, true))).toEqual([
      0x01, 0x21, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    ]);
    expect(flagsOf(1, false)).toBe(0x01);
  });
});

test('NBD requests: read back as they were written, and touch nothing else', () => {
  const u16 = fc.nat(0xffff);
  const u32 = fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 0x7fffffff, 0x80000000, 0xffffffff));
  const request = fc.record({
    flags: u16,
    type: u16,
    cookieHi: u32,
    cookieLo: u32,
    offsetHi: u32,
    offsetLo: u32,
    length: u32,
  });
  const big = fc.oneof(fc.nat(Number.MAX_SAFE_INTEGER), fc.constantFrom(2 ** 32, 2 ** 53 - 1, 2 ** 32 - 1));
  fc.assert(
    fc.property(request, fc.boolean(), big, fc.nat(16), (fields, extended, more, at) => {
      const length = extended ? more : fields.length;
      const bytes = Buffer.alloc(64, 0xaa);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const size = encodeRequest(view, at, extended, { ...fields, length });
      expect(size).toBe(extended ? 32 : 28);
      expect(bytes.readUInt32BE(at)).toBe(extended ? 0x21e41c71 : 0x25609513);
      expect(bytes.readUInt16BE(at + 4)).toBe(fields.flags | (extended && fields.type === 1 ? 0x20 : 0));
      expect(bytes.readUInt16BE(at + 6)).toBe(fields.type);
      const cookie = (BigInt(fields.cookieHi) << 32n) + BigInt(fields.cookieLo);
      const offset = (BigInt(fields.offsetHi) << 32n) + BigInt(fields.offsetLo);
      expect(bytes.readBigUInt64BE(at + 8)).toBe(cookie);
      expect(bytes.readBigUInt64BE(at + 16)).toBe(offset);
      expect(extended ? bytes.readBigUInt64BE(at + 24) : BigInt(bytes.readUInt32BE(at + 24))).toBe(
        BigInt(length),
      );
      const outside = [...bytes.subarray(0, at), ...bytes.subarray(at + size)];
      expect(outside.every((byte) => byte === 0xaa)).toBe(true);
    }),
    { numRuns: 500 },
  );
});
