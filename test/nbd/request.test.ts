// Requests as proto.md lays them out.

import { expect, test } from 'vitest';
import { encodeRequest } from '../../src/nbd/request.js';
import { hex } from '../helpers/hex.js';

const REQUEST = {
  flags: 0x0001,
  type: 6,
  cookieHi: 0x01020304,
  cookieLo: 0x05060708,
  offsetHi: 0x7fffffff,
  offsetLo: 0xfffffe00,
};

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
