// Replies to the kernel, byte for byte, as <linux/fuse.h> lays them out on a little-endian host.

import { describe, expect, test } from 'vitest';
import {
  writeAttrReply,
  writeDirectory,
  writeEntryReply,
  writeLseekReply,
  writeNegativeEntry,
  writeOpenReply,
  writeOutHeader,
  writeStatfsReply,
  writeWriteReply,
  writeXattrSize,
} from '../../../src/fuse/reply.js';
import { hex } from '../../support/hex.js';

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
const ROOT = { ...NODE, nodeid: 1, size: 0n, mode: 0o040755, isDirectory: true };
const VALIDITY = { entry: 2.5, attributes: 1 };

const FUSE_ATTR = hex`
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

const FUSE_ENTRY_OUT = hex`
  0200000000000000 | nodeid
  0000000000000000 | generation
  0200000000000000 | entry_valid
  0100000000000000 | attr_valid
  0065cd1d         | entry_valid_nsec 500000000
  00000000         | attr_valid_nsec
  ${FUSE_ATTR}     | attr`;

/** Bytes of the view that were not written. */
const OLD = 0xaa;

/** The bytes that `write` puts behind the header of a used buffer; checks that it writes nothing else. */
function body(write: (view: DataView) => number): Uint8Array {
  const bytes = new Uint8Array(4096).fill(OLD);
  const length = write(new DataView(bytes.buffer));
  expect(bytes.subarray(0, 16).every((byte) => byte === OLD)).toBe(true);
  expect(bytes.subarray(16 + length).every((byte) => byte === OLD)).toBe(true);
  return bytes.subarray(16, 16 + length);
}

describe('fuse_out_header', () => {
  test('has the negated errno and the number of the request', () => {
    const bytes = new Uint8Array(24).fill(OLD);
    writeOutHeader(new DataView(bytes.buffer), 4, 24, 5, { uniqueLo: 0x11223344, uniqueHi: 0x55667788 });
    expect(bytes).toEqual(hex`
      aa*4             | before it
      18000000         | len
      fbffffff         | error -5
      4433221188776655 | unique
      aa*4             | behind it`);
  });

  test('has error 0 for success', () => {
    const bytes = new Uint8Array(16);
    writeOutHeader(new DataView(bytes.buffer), 0, 16, 0, { uniqueLo: 0xffffffff, uniqueHi: 0 });
    expect(bytes).toEqual(hex`10000000 00000000 ffffffff00000000 | len, error, unique`);
  });
});

describe('FUSE attribute replies', () => {
  test('fuse_attr_out', () => {
    expect(body((view) => writeAttrReply(view, NODE, VALIDITY))).toEqual(hex`
      0100000000000000 | attr_valid
      00000000         | attr_valid_nsec
      00000000         | dummy
      ${FUSE_ATTR}     | attr`);
  });

  test('fuse_entry_out', () => {
    expect(body((view) => writeEntryReply(view, NODE, VALIDITY))).toEqual(FUSE_ENTRY_OUT);
  });

  test('have node 0 for a missing name, which the kernel caches', () => {
    expect(body((view) => writeNegativeEntry(view, 1.25))).toEqual(hex`
      0000000000000000 | nodeid
      0000000000000000 | generation
      0100000000000000 | entry_valid
      0000000000000000 | attr_valid
      80b2e60e         | entry_valid_nsec 250000000
      00000000         | attr_valid_nsec
      00*88            | attr`);
  });

  test('have two links for a directory; times before 1970 and the largest size are exact', () => {
    const odd = { ...ROOT, size: 2n ** 63n - 1n, atime: -1, mtime: 0.5, ctime: 1_700_000_000_123.25 };
    const attr = body((view) => writeAttrReply(view, odd, VALIDITY)).subarray(16);
    expect(attr.subarray(8, 16)).toEqual(hex`ffffffffffffff7f | size`);
    expect(attr.subarray(24, 60)).toEqual(hex`
      ffffffffffffffff | atime -1
      0000000000000000 | mtime
      00f1536500000000 | ctime 1700000000
      c0878b3b         | atimensec 999000000
      20a10700         | mtimensec 500000
      50a55807         | ctimensec 123250000`);
    expect(attr.subarray(64, 68)).toEqual(hex`02000000 | nlink`);
  });
});

describe('FUSE small replies', () => {
  test('fuse_open_out, with file handle 0', () => {
    expect(body((view) => writeOpenReply(view, 3))).toEqual(hex`
      0000000000000000 | fh
      03000000         | open_flags
      00000000         | padding`);
  });

  test('fuse_write_out', () => {
    expect(body((view) => writeWriteReply(view, 0, 0x10203))).toEqual(hex`
      03020100 | size
      00000000 | padding`);
  });

  test('fuse_write_out elsewhere in a buffer', () => {
    const bytes = new Uint8Array(64).fill(OLD);
    expect(writeWriteReply(new DataView(bytes.buffer), 32, 1)).toBe(8);
    expect(bytes).toEqual(hex`aa*48 | before it
                              01000000 00000000 | size, padding
                              aa*8 | behind it`);
  });

  test('fuse_lseek_out', () => {
    expect(body((view) => writeLseekReply(view, 2n ** 62n + 1n))).toEqual(hex`0100000000000040 | offset`);
  });

  test('fuse_getxattr_out', () => {
    expect(body((view) => writeXattrSize(view, 258))).toEqual(hex`02010000 00000000 | size, padding`);
  });

  test('fuse_statfs_out of a file system whose blocks are free, with its last block counted whole', () => {
    expect(body((view) => writeStatfsReply(view, 4097n, 3, 4096))).toEqual(hex`
      0200000000000000 | blocks
      0200000000000000 | bfree
      0200000000000000 | bavail
      0300000000000000 | files
      0000000000000000 | ffree
      00100000         | bsize
      ff000000         | namelen
      00100000         | frsize
      00000000         | padding
      00*24            | spare`);
  });
});

describe('FUSE directory replies', () => {
  const name = (text: string): Uint8Array => new TextEncoder().encode(text);
  const entries = [
    { name: name('.'), node: ROOT, offset: 1, withAttributes: false },
    { name: name('disk.raw'), node: NODE, offset: 2, withAttributes: true },
    { name: name('größe'), node: { ...NODE, nodeid: 3 }, offset: 3, withAttributes: true },
  ];
  const DOT = hex`
    0100000000000000 | ino
    0100000000000000 | off: of the next
    01000000         | namelen
    04000000         | type DT_DIR
    "." 00*7         | name, filled up to 8 bytes`;
  const DISK = hex`
    0200000000000000 | ino
    0200000000000000 | off
    08000000         | namelen
    08000000         | type DT_REG
    "disk.raw"       | name`;
  const UTF8 = hex`
    0300000000000000       | ino
    0300000000000000       | off
    07000000               | namelen in bytes
    08000000               | type DT_REG
    6772c3b6c39f65 00      | name`;

  test('READDIR returns all entries that fit', () => {
    expect(body((view) => writeDirectory(view, entries, 4000, undefined))).toEqual(
      hex`${DOT}
          ${DISK}
          ${UTF8}`,
    );
  });

  test('READDIR stops where the kernel has no more room, and continues from there', () => {
    expect(body((view) => writeDirectory(view, entries, 63, undefined))).toEqual(DOT);
    expect(body((view) => writeDirectory(view, entries.slice(1), 63, undefined))).toEqual(DISK);
    expect(body((view) => writeDirectory(view, entries.slice(1), 64, undefined))).toEqual(
      hex`${DISK} ${UTF8}`,
    );
    expect(body((view) => writeDirectory(view, entries, 31, undefined))).toHaveLength(0);
    expect(body((view) => writeDirectory(view, entries.slice(3), 4000, undefined))).toHaveLength(0);
  });

  test('READDIRPLUS puts a fuse_entry_out before each, empty for dots, which it does not look up', () => {
    expect(body((view) => writeDirectory(view, entries.slice(0, 2), 4000, () => VALIDITY))).toEqual(hex`
      00*128            | entry_out
      ${DOT}            | dirent
      ${FUSE_ENTRY_OUT} | entry_out
      ${DISK}           | dirent`);
    expect(body((view) => writeDirectory(view, entries, 319, () => VALIDITY))).toHaveLength(160);
  });
});
