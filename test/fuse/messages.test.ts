// The kernel's messages, byte for byte, as <linux/fuse.h> lays them out on a little-endian host.

import { describe, expect, test } from 'vitest';
import { initObjection, readInit, writeInitReply } from '../../src/fuse/init.js';
import {
  writeAttrReply,
  writeDirectory,
  writeEntryReply,
  writeOpenReply,
  writeOutHeader,
  writeStatfsReply,
  writeWriteReply,
} from '../../src/fuse/reply.js';
import { hex } from '../helpers/hex.js';

const NODE = {
  nodeid: 2,
  size: 2n ** 62n,
  blocks: 8n,
  mode: 0o100644,
  uid: 1000,
  gid: 100,
  atime: 1_500,
  mtime: 2_250,
  ctime: 3_000,
  blockSize: 4096,
  isDirectory: false,
};
const VALIDITY = { entry: 2.5, attributes: 1 };
const ATTRIBUTES = `
  0200000000000000 | ino
  0000000000000040 | size
  0800000000000000 | blocks
  0100000000000000 | atime
  0200000000000000 | mtime
  0300000000000000 | ctime
  0065cd1d         | atimensec 500000000
  80b2e60e         | mtimensec 250000000
  00000000         | ctimensec
  a4810000         | mode
  01000000         | nlink
  e8030000         | uid
  64000000         | gid
  00000000         | rdev
  00100000         | blksize
  00000000         | flags`;
const lines = (text: string): Uint8Array => hex(Object.assign([text], { raw: [text] }));

const view = (): DataView => new DataView(new ArrayBuffer(4096));
const written = (target: DataView, from: number, length: number): Uint8Array =>
  new Uint8Array(target.buffer, from, length);

describe('replies', () => {
  test('fuse_out_header carries the negated errno and the unique number', () => {
    const out = view();
    writeOutHeader(out, 0, 24, 5, 0x11223344, 0x55667788);
    expect(written(out, 0, 16)).toEqual(
      lines(`
      18000000         | len
      fbffffff         | error -5
      4433221188776655 | unique`),
    );
  });

  test('fuse_attr_out', () => {
    const out = view();
    expect(writeAttrReply(out, NODE, VALIDITY)).toBe(104);
    expect(written(out, 16, 104)).toEqual(
      lines(`
      0100000000000000 | attr_valid
      00000000         | attr_valid_nsec
      00000000         | dummy ${ATTRIBUTES}`),
    );
  });

  test('fuse_entry_out', () => {
    const out = view();
    expect(writeEntryReply(out, NODE, VALIDITY)).toBe(128);
    expect(written(out, 16, 128)).toEqual(
      lines(`
      0200000000000000 | nodeid
      00*8             | generation
      0200000000000000 | entry_valid
      0100000000000000 | attr_valid
      0065cd1d         | entry_valid_nsec
      00000000         | attr_valid_nsec ${ATTRIBUTES}`),
    );
  });

  test('fuse_open_out, fuse_write_out and fuse_statfs_out', () => {
    const out = view();
    expect(writeOpenReply(out, 3)).toBe(16);
    expect(written(out, 16, 16)).toEqual(lines('00*8 | fh\n03000000 | open_flags\n00*4 | padding'));
    expect(writeWriteReply(out, 32, 0x10000)).toBe(8);
    expect(written(out, 48, 8)).toEqual(lines('00000100 | size\n00*4 | padding'));
    expect(writeStatfsReply(out, 4097n, 1, 4096)).toBe(80);
    expect(written(out, 16, 8)).toEqual(lines('0200000000000000 | blocks'));
  });

  test('a directory is cut where the kernel has no more room, and goes on from there', () => {
    const name = (text: string): Uint8Array => new TextEncoder().encode(text);
    const entries = [
      { name: name('.'), node: { ...NODE, nodeid: 1, mode: 0o040755 }, dots: true },
      { name: name('disk.raw'), node: NODE, dots: false },
    ];
    const out = view();
    expect(writeDirectory(out, entries, 0, 40, undefined)).toBe(32);
    expect(writeDirectory(out, entries, 1, 40, undefined)).toBe(32);
    expect(written(out, 16, 32)).toEqual(
      lines(`
      0200000000000000 | ino
      0200000000000000 | off
      08000000         | namelen
      08000000         | type DT_REG
      "disk.raw"       | name`),
    );
    expect(writeDirectory(out, entries, 2, 4000, undefined)).toBe(0);
    expect(writeDirectory(out, entries, 0, 4000, VALIDITY)).toBe(2 * (128 + 32));
  });
});

describe('FUSE_INIT', () => {
  const request = lines(`
    00*40    | fuse_in_header
    07000000 | major
    28000000 | minor 40
    00000200 | max_readahead
    fbfffffb | flags: all but FUSE_POSIX_LOCKS … and FUSE_ATOMIC_O_TRUNC
    10000000 | flags2`);

  test('only what the kernel offers and we want is agreed on', () => {
    const out = view();
    const init = readInit(new DataView(request.buffer, request.byteOffset), request.length);
    expect(init).toMatchObject({ major: 7, minor: 40, maxReadahead: 0x20000, flags2: 16 });
    expect(initObjection(init)).toBeUndefined();
    const wishes = { writeback: true, directMmap: false, asyncRead: true, maxTransfer: 1024 * 1024 };
    expect(writeInitReply(out, init, wishes)).toBe(64);
    expect(out.getUint32(16, true)).toBe(7);
    expect(out.getUint32(20, true)).toBe(38);
    const flags = out.getUint32(28, true);
    expect(flags & (1 << 16)).not.toBe(0);
    expect(flags & (1 << 3)).toBe(0);
    expect(out.getUint32(36, true)).toBe(1024 * 1024);
    expect(out.getUint16(44, true)).toBe(256);
    expect(out.getUint32(48, true)).toBe(0);
  });

  test('an old kernel is refused with its version and what is needed', () => {
    expect(initObjection({ major: 7, minor: 26, maxReadahead: 0, flags: 0, flags2: 0 })).toMatch(
      /7\.26.*4\.20/,
    );
  });
});
