// FUSE_INIT: the negotiation of kernel and file system, byte for byte on a little-endian host.

import { describe, expect, test } from 'vitest';
import { initObjection, readInit, writeInitReply } from '../../../src/fuse/init.js';
import { hex } from '../../support/hex.js';

const REQUEST = hex`
  00*40    | fuse_in_header
  07000000 | major
  28000000 | minor 40
  00000200 | max_readahead
  fbfffffb | flags: all but 1 << 2 and 1 << 26
  10000000 | flags2: 1 << 36
  00*44    | unused`;

const OPTIONS = {
  writeback: true,
  directMmap: false,
  passthrough: false,
  asyncRead: true,
  maxTransfer: 1024 * 1024,
  pageSize: 4096,
};
const CACHED = readRequest(REQUEST);

function readRequest(bytes: Uint8Array): ReturnType<typeof readInit> {
  return readInit(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length);
}

/** The body of the reply, written over an old message. */
function reply(options: Parameters<typeof writeInitReply>[2], request = CACHED): Uint8Array {
  const bytes = new Uint8Array(96).fill(0xaa);
  expect(writeInitReply(new DataView(bytes.buffer), request, options)).toBe(64);
  expect(bytes.subarray(80).every((byte) => byte === 0xaa)).toBe(true);
  return bytes.subarray(16, 80);
}

const flagsOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);

describe('FUSE_INIT request', () => {
  test('parses as the kernel wrote it', () => {
    expect(CACHED).toEqual({ major: 7, minor: 40, maxReadahead: 0x20000, flags: 0xfbfffffb, flags2: 16 });
  });

  test('before Linux 5.17 has no second word of flags', () => {
    expect(readRequest(REQUEST.subarray(0, 56)).flags2).toBe(0);
  });
});

describe('FUSE_INIT kernel version', () => {
  test('from 7.28 on is accepted', () => {
    expect(initObjection({ ...CACHED, minor: 28 })).toBeUndefined();
    expect(initObjection({ ...CACHED, minor: 99 })).toBeUndefined();
  });

  test('before 7.28 is refused, with the version and the requirement', () => {
    expect(initObjection({ ...CACHED, minor: 27 })).toMatch(/7\.27.*7\.28.*4\.20/);
    expect(initObjection({ ...CACHED, major: 8, minor: 0 })).toMatch(/8\.0/);
    expect(initObjection({ ...CACHED, major: 6 })).toMatch(/6\.40/);
  });
});

describe('FUSE_INIT reply', () => {
  test('has the flags that both the kernel and nbdfuse want', () => {
    expect(reply(OPTIONS)).toEqual(hex`
      07000000 | major
      26000000 | minor 38: the older of both
      ffffffff | max_readahead: whatever the mount has
      21e04552 | flags: see the next test
      4000     | max_background
      3000     | congestion_threshold
      00001000 | max_write
      01000000 | time_gran
      0001     | max_pages
      0000     | map_alignment
      00000000 | flags2
      00*28    | unused`);
  });

  test('has the version of the kernel where that is older', () => {
    expect(reply(OPTIONS, { ...CACHED, minor: 31 }).subarray(4, 8)).toEqual(hex`1f000000`);
  });

  test('has no flag that the kernel lacks', () => {
    expect(flagsOf(reply(OPTIONS, { ...CACHED, flags: 0 }))).toBe(0);
    expect(flagsOf(reply(OPTIONS, { ...CACHED, flags: 1 << 16 }))).toBe(1 << 16);
  });

  test('has each requested flag, and no other', () => {
    const bits = (bytes: Uint8Array): number[] =>
      [...Array(32).keys()].filter((bit) => (flagsOf(bytes) >>> bit) & 1);
    // ASYNC_READ 0, BIG_WRITES 5, DO_READDIRPLUS 13, READDIRPLUS_AUTO 14, ASYNC_DIO 15, WRITEBACK_CACHE 16,
    // PARALLEL_DIROPS 18, MAX_PAGES 22, EXPLICIT_INVAL_DATA 25, HANDLE_KILLPRIV_V2 28, INIT_EXT 30
    expect(bits(reply(OPTIONS))).toEqual([0, 5, 13, 14, 15, 16, 18, 22, 25, 28, 30]);
    expect(bits(reply({ ...OPTIONS, writeback: false }))).not.toContain(16);
    expect(bits(reply({ ...OPTIONS, asyncRead: false }))).not.toContain(0);
  });

  test.each([4096, 16_384, 65_536])('counts the size of a request in pages of %i bytes', (pageSize) => {
    const bytes = reply({ ...OPTIONS, pageSize });
    const pages = new DataView(bytes.buffer, bytes.byteOffset).getUint16(28, true);
    expect(pages * pageSize).toBe(OPTIONS.maxTransfer);
  });

  test('allows mappings of files open for direct I/O, where the kernel can', () => {
    const options = { ...OPTIONS, directMmap: true };
    expect(reply(options).subarray(32, 36)).toEqual(hex`10000000 | flags2`);
    expect(reply(options, { ...CACHED, flags2: 0 }).subarray(32, 36)).toEqual(hex`00000000 | flags2`);
  });

  test('allows the kernel to read files without nbdfuse, where it can', () => {
    const options = { ...OPTIONS, passthrough: true };
    const kernel = { ...CACHED, flags2: 0xffff };
    expect(reply(options, kernel).subarray(32, 40)).toEqual(hex`20000000 | flags2
      01000000 | max_stack_depth`);
    expect(reply(options).subarray(32, 40)).toEqual(hex`00*8 | the kernel cannot`);
    expect(reply(OPTIONS, kernel).subarray(32, 40)).toEqual(hex`00*8 | not wanted`);
  });

  test('has the limits of the command line, within the range of the fields', () => {
    const limits = (options: object): Uint8Array => reply({ ...OPTIONS, ...options }).subarray(8, 20);
    expect(limits({ maxBackground: 12, congestionThreshold: 5, maxReadahead: 4096 }).subarray(8)).toEqual(
      hex`0c00 0500 | max_background, congestion_threshold`,
    );
    expect(limits({ maxReadahead: 4096 }).subarray(0, 4)).toEqual(hex`00100000 | max_readahead`);
    expect(limits({ maxBackground: 100_000 }).subarray(8)).toEqual(hex`ffff 00c0 | three quarters`);
    expect(limits({ maxBackground: 1 }).subarray(8)).toEqual(hex`0100 0100 | never 0`);
    expect(limits({ congestionThreshold: 9999 }).subarray(8)).toEqual(hex`4000 4000 | never more`);
  });
});
