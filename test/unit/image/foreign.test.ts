// Files that are no raw disks, by their first and last bytes, and raw disks that only look like them.

import { describe, expect, it } from 'vitest';
import { chooseFormat } from '../../../src/image/choice.js';
import { archiveOfContent, foreignOf, hasPartitions, isTarHeader } from '../../../src/image/foreign.js';
import { crc32 } from '../../../src/partitions/crc32.js';

const NONE = { format: undefined, compression: undefined };
const bytes = (text: string): Buffer => Buffer.concat([Buffer.from(text, 'latin1'), Buffer.alloc(1024)]);

/** A header of tar for an empty file, without the magic of POSIX. */
function tarHeader(name: string): Buffer {
  const block = Buffer.alloc(512);
  block.write(name);
  block.write('0000644\0', 100);
  block.write('00000000000\0', 124);
  block.fill(' ', 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

/** An MBR with one partition. */
function withTable(head: Buffer): Buffer {
  const sector = Buffer.from(head.subarray(0, 512));
  sector.fill(0, 446, 510);
  sector[446 + 4] = 0x83;
  sector.writeUInt32LE(2048, 446 + 8);
  sector.writeUInt32LE(2048, 446 + 12);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** The header of an old cpio, for a file `disk.img`. */
function binaryCpio(write: (bytes: Buffer, value: number, at: number) => void): Buffer {
  const head = bytes('');
  for (const [at, value] of [
    [0, 0o070707],
    [6, 0o100644],
    [20, 9],
  ] as const)
    write(head, value, at);
  head.write('disk.img', 26);
  return head;
}

function arjHeader(): Buffer {
  const head = bytes('\x60\xea\x22\0\x1e\x0b');
  head.writeUInt32LE(crc32(head.subarray(4, 4 + 34)), 4 + 34);
  return head;
}

const FILES: readonly (readonly [string, Buffer])[] = [
  ['a zip archive', bytes('PK\x03\x04')],
  ['an empty zip archive', bytes('PK\x05\x06')],
  ['a 7z archive', bytes('7z\xbc\xaf\x27\x1c')],
  ['a rar archive', bytes('Rar!\x1a\x07\x01\0')],
  ['a cpio archive', bytes('070701')],
  ['an ar archive', bytes('!<arch>\n')],
  ['an LHA archive', bytes('xx-lh5-')],
  ['a tar archive', tarHeader('disk.img')],
  ['a file compressed with lzop', bytes('\x89LZO\0\r\n\x1a\n')],
  ['a file compressed with lzma', bytes('\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0')],
  ['a file compressed with compress', bytes('\x1f\x9d\x90')],
  ['an Android sparse image', bytes('\x3a\xff\x26\xed\x01\0\0\0')],
  ['an EnCase image (E01)', bytes('EVF\x09\r\n\xff\0')],
  ['a partclone image', bytes('partclone-image')],
  ['a Proxmox backup (VMA)', bytes('VMA\0')],
  ['a saved virtual machine (VMware)', bytes('\xd2\xbe\xd2\xbe')],
  ['a web page', bytes('\n<!DOCTYPE HTML PUBLIC')],
  ['a description of a virtual machine', bytes('<?xml version="1.0"?>\n<!-- x -->\n<ovf:Envelope')],
  ['a pointer of Git LFS', bytes('version https://git-lfs.github.com/spec/v1\n')],
  ['a file compressed with zstd or lz4', bytes('\x50\x2a\x4d\x18\x04\0\0\0')],
  ['a file compressed with lzfse', bytes('bvx2')],
  ['a file compressed with rzip', bytes('RZIP\x02\x01')],
  ['a file that gpg has encrypted', bytes('\x8c\x0d\x04\x09\x03')],
  ['a Windows image (WIM)', bytes('WLPWM\0\0\0')],
  ['a logical EnCase image (Lx01)', bytes('LEF2\r\n\x81\0')],
  ['a dar archive', bytes('\0\0\0\x7b')],
  ['a backup of dump(8)', bytes(`${'\0'.repeat(24)}\x6c\xea\0\0`)],
  ['a backup of xfsdump', bytes('xFSdump0')],
  ['a stream of btrfs send', bytes('btrfs-stream\0')],
  ['a stream of zfs send', bytes(`${'\0'.repeat(8)}\xac\xcb\xba\xf5\x02\0\0\0`)],
  ['a sparse image of macOS (ASIF)', bytes('shdw')],
  [
    'a description of a virtual machine',
    bytes('<?xml version="1.0"?>\n<Parallels_disk_image Version="1.0">'),
  ],
  [
    'an error of a web server',
    bytes('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'),
  ],
  ['a cpio archive', binaryCpio((bytes, value, at) => bytes.writeUInt16LE(value, at))],
  ['a cpio archive', binaryCpio((bytes, value, at) => bytes.writeUInt16BE(value, at))],
  ['an ARJ archive', arjHeader()],
  [
    'a program of Windows',
    Buffer.concat([bytes(`MZ${'\0'.repeat(58)}\x80`), bytes('')]).fill('PE\0\0', 128, 132),
  ],
  ['a program, or a copy of the memory of one (ELF)', bytes('\x7fELF\x02\x01\x01')],
  ['a script', bytes('#!/bin/sh\n# This is a shell archive\n')],
  ['an Apple archive', bytes('AA01')],
  ['a file compressed with an old zstd', bytes('\x27\xb5\x2f\xfd')],
  ['a Full Flash Update of Windows (FFU)', bytes('\x18\0\0\0SignedImage ')],
  ['a copy of the memory of a machine', bytes('PAGEDU64')],
  ['a CD image with sectors of 2352 bytes', bytes(`\0${'\xff'.repeat(10)}\0\0\x02\0\x01`)],
];

describe('foreign file', () => {
  it.each(FILES)('is %s', (what, head) => {
    expect(foreignOf(head)?.what).toBe(what);
    expect(() => chooseFormat({ name: 'disk.img', head }, NONE)).toThrow(
      `disk.img is ${what}, not a raw disk: ${foreignOf(head)?.remedy}, or use --format=raw to serve it unchanged`,
    );
  });

  it('of another name is named, too', () => {
    expect(() => chooseFormat({ name: 'a.qcow2', head: FILES[0][1] }, NONE)).toThrow(
      'a.qcow2 is a zip archive, not a qcow2 image: ',
    );
  });

  it('in an archive has another next step if it is an archive itself', () => {
    expect(() => chooseFormat({ name: 'a.zip', head: FILES[0][1], isMember: true }, NONE)).toThrow(
      'a.zip is a zip archive, not a raw disk: unpack both archives first (unzip), or use',
    );
  });

  it('is raw if the user says so', () => {
    for (const [, head] of FILES) {
      expect(chooseFormat({ name: 'disk.img', head }, { format: 'raw', compression: undefined })).toBe('raw');
    }
  });

  it.each([
    ['a Nero CD image', 12, 'NER5'],
    ['a compressed ISO image (UIF)', 64, 'bbis'],
    ['an encrypted dmg', 8, 'cdsaencr'],
  ])('has its mark in the last bytes: %s', (what, fromEnd, text) => {
    const tail = Buffer.alloc(512);
    tail.write(text, 512 - fromEnd);
    expect(foreignOf(Buffer.alloc(512), tail)?.what).toBe(what);
  });
});

describe('raw disk', () => {
  it.each(FILES)('with a partition table is one, even if its code begins like %s', (_, head) => {
    const sector = withTable(Buffer.concat([head, Buffer.alloc(512)]));
    expect(hasPartitions(sector)).toBe(true);
    expect(foreignOf(sector)).toBeUndefined();
    expect(archiveOfContent(sector)).toBeUndefined();
  });

  it.each([
    ['an empty one', Buffer.alloc(2048)],
    ['LUKS', bytes('LUKS\xba\xbe')],
    ['squashfs', bytes('hsqs')],
    ['FAT', bytes('\xeb\x3c\x90MSDOS5.0\0\x02\x04\x01\0\x02\0\x02\0\xf8\xff\0\x3f\0\xff\0')],
    ['BitLocker', bytes('\xeb\x58\x90-FVE-FS-\0\x02\x08\0\0\0\0\0\0\xf8\0\0\x3f\0\xff\0')],
    ['XFS', bytes('XFSB\0\0\x10\0\0\0\0\0\0\0\x10\0')],
    ['an almost empty frame of zstd', bytes('\x50\x2a\x4d').subarray(0, 3)],
    ['NTFS', bytes('\xeb\x52\x90NTFS    ')],
    ['no bytes', Buffer.alloc(0)],
    ['two bytes of cpio', bytes('\xc7\x71')],
    ['two bytes of ARJ', bytes('\x60\xea\x22')],
    ['a boot sector that begins like a program of DOS', bytes('MZ\x90')],
    ['an XML file', bytes('<?xml version="1.0"?><data/>')],
    ['a tar header with a wrong sum', Buffer.concat([tarHeader('a').subarray(0, 300), Buffer.alloc(212, 1)])],
  ])('is one: %s', (_, head) => {
    expect(foreignOf(head)).toBeUndefined();
  });

  it('of any bytes is examined without an error', () => {
    let seed = 1;
    const random = (): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed >> 16;
    };
    for (let i = 0; i < 2000; i++) {
      const head = Buffer.from(Array.from({ length: random() % 700 }, random));
      expect([true, false]).toContain(isTarHeader(head) || foreignOf(head) === undefined);
    }
  });
});

describe('image by its last bytes', () => {
  const ends = (text: string): Buffer => Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)]);

  it.each([
    ['disk.img', 'conectix', 'looks like a vhd image, but its name does not say so'],
    ['disk.img', 'koly\0\0\0\x04', 'looks like a dmg image, but its name does not say so'],
    ['disk.dmg', 'conectix', 'should be a dmg image, but looks like a vhd image'],
    ['disk.dmg', '', 'should be a dmg image, but does not look like one'],
  ])('%s that ends with %j is refused', (name, end, message) => {
    expect(() => chooseFormat({ name, head: withTable(Buffer.alloc(512)), tail: ends(end) }, NONE)).toThrow(
      message,
    );
  });

  it('is opened if its name agrees', () => {
    const head = withTable(Buffer.alloc(512));
    expect(chooseFormat({ name: 'a.dmg', head, tail: ends('koly\0\0\0\x04') }, NONE)).toBe('dmg');
    expect(chooseFormat({ name: 'a.vhd', head, tail: ends('conectix') }, NONE)).toBe('vhd');
  });
});
