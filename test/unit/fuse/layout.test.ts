// The offsets of the fields in the kernel's requests, tested with messages laid out by hand after
// <linux/fuse.h>, on a little-endian host.

import { expect, test } from 'vitest';
import * as layout from '../../../src/fuse/layout.js';
import { hex } from '../../support/hex.js';

const u32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, layout.HOST_ENDIAN);
const u64 = (bytes: Uint8Array, at: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, layout.HOST_ENDIAN);

test('FUSE layout: fuse_in_header', () => {
  const message = hex`
    30000000         | len
    0f000000         | opcode FUSE_READ
    0807060504030201 | unique
    1817161514131211 | nodeid
    21000000         | uid
    22000000         | gid
    23000000         | pid
    0000 0000        | total_extlen, padding`;
  expect(message).toHaveLength(layout.IN_HEADER);
  expect(u32(message, layout.IN_LEN)).toBe(0x30);
  expect(u32(message, layout.IN_OPCODE)).toBe(15);
  expect(u32(message, layout.IN_UNIQUE_LO)).toBe(0x05060708);
  expect(u32(message, layout.IN_UNIQUE_HI)).toBe(0x01020304);
  expect(u32(message, layout.IN_NODEID_LO)).toBe(0x15161718);
  expect(u32(message, layout.IN_NODEID_HI)).toBe(0x11121314);
  expect(u32(message, layout.IN_UID)).toBe(0x21);
  expect(u32(message, layout.IN_GID)).toBe(0x22);
  expect(u32(message, layout.IN_PID)).toBe(0x23);
});

test('FUSE layout: fuse_read_in and fuse_write_in', () => {
  const message = hex`
    00*40            | fuse_in_header
    0000000000000000 | fh
    0807060504030201 | offset
    00001000         | size
    01000000         | read_flags, write_flags
    0000000000000000 | lock_owner
    00100000         | flags
    00000000         | padding
    "data"           | of a WRITE`;
  expect(u32(message, layout.IO_OFFSET_LO)).toBe(0x05060708);
  expect(u32(message, layout.IO_OFFSET_HI)).toBe(0x01020304);
  expect(u32(message, layout.IO_SIZE)).toBe(0x100000);
  expect(u32(message, layout.IO_FLAGS)).toBe(0x1000);
  expect(message.subarray(layout.WRITE_DATA)).toEqual(hex`"data"`);
});

test('FUSE layout: fuse_fallocate_in and fuse_lseek_in', () => {
  const fallocate = hex`
    00*40            | fuse_in_header
    0000000000000000 | fh
    0800000000000000 | offset
    0900000000000000 | length
    03000000         | mode
    00000000         | padding`;
  expect(u64(fallocate, layout.FALLOCATE_OFFSET)).toBe(8n);
  expect(u64(fallocate, layout.FALLOCATE_LENGTH)).toBe(9n);
  expect(u32(fallocate, layout.FALLOCATE_MODE)).toBe(3);
  const lseek = hex`
    00*40            | fuse_in_header
    0000000000000000 | fh
    0800000000000000 | offset
    04000000         | whence SEEK_HOLE
    00000000         | padding`;
  expect(u64(lseek, layout.LSEEK_OFFSET)).toBe(8n);
  expect(u32(lseek, layout.LSEEK_WHENCE)).toBe(4);
});

test('FUSE layout: fuse_setattr_in', () => {
  const message = hex`
    00*40            | fuse_in_header
    01000000         | valid
    00000000         | padding
    0000000000000000 | fh
    0200000000000000 | size
    0000000000000000 | lock_owner
    0300000000000000 | atime
    0400000000000000 | mtime
    0000000000000000 | ctime
    05000000         | atimensec
    06000000         | mtimensec
    00000000         | ctimensec
    07000000         | mode
    00000000         | unused4
    08000000         | uid
    09000000         | gid
    00000000         | unused5`;
  expect(u32(message, layout.SETATTR_VALID)).toBe(1);
  expect(u32(message, layout.SETATTR_ATIMENSEC)).toBe(5);
  expect(u32(message, layout.SETATTR_MTIMENSEC)).toBe(6);
  expect(u32(message, layout.SETATTR_MODE)).toBe(7);
  expect(u32(message, layout.SETATTR_UID)).toBe(8);
  expect(u32(message, layout.SETATTR_GID)).toBe(9);
  expect(u64(message, layout.SETATTR_SIZE)).toBe(2n);
  expect(u64(message, layout.SETATTR_ATIME)).toBe(3n);
  expect(u64(message, layout.SETATTR_MTIME)).toBe(4n);
});

test('FUSE layout: fuse_open_in, fuse_release_in, fuse_access_in, fuse_getxattr_in and fuse_interrupt_in', () => {
  const open = hex`00*40 02800000 00000000 | flags, open_flags`;
  expect(u32(open, layout.OPEN_FLAGS)).toBe(0x8002);
  const release = hex`00*40 0000000000000000 01000000 00000000 | fh, flags, release_flags`;
  expect(u32(release, layout.RELEASE_FLAGS)).toBe(1);
  const access = hex`00*40 06000000 00000000 | mask, padding`;
  expect(u32(access, layout.ACCESS_MASK)).toBe(6);
  const getxattr = hex`00*40 00010000 00000000 "user.a" 00 | size, padding, name`;
  expect(u32(getxattr, layout.GETXATTR_SIZE)).toBe(256);
  expect(getxattr.subarray(layout.GETXATTR_NAME)).toEqual(hex`"user.a" 00`);
  const interrupt = hex`00*40 0807060504030201 | unique`;
  expect(u32(interrupt, layout.INTERRUPT_UNIQUE_LO)).toBe(0x05060708);
  expect(u32(interrupt, layout.INTERRUPT_UNIQUE_HI)).toBe(0x01020304);
});
