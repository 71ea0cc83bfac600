// Names what a disk begins with where it has no partition table that Linux would read on a PC. Pure.

import { findSignature, type Signature } from './signature.js';

/** Bytes at the beginning of a disk that have all signatures. */
export const CONTENTS_LENGTH = 2048;

interface Content extends Signature {
  readonly what: string;
}

const TABLES: readonly Content[] = [
  { what: 'an Apple partition map', offset: 512, bytes: 'PM\0' },
  { what: 'an Apple partition map', offset: 512, bytes: 'TS\0' },
  { what: 'an SGI disk label', offset: 0, bytes: '\x0b\xe5\xa9\x41' },
  { what: 'a Sun disk label', offset: 508, bytes: '\xda\xbe' },
  { what: 'a BSD disk label', offset: 512, bytes: '\x57\x45\x56\x82' },
  { what: 'a BSD disk label', offset: 64, bytes: '\x57\x45\x56\x82' },
  { what: 'an Amiga partition table', offset: 0, bytes: 'RDSK' },
  { what: 'an AIX disk label', offset: 0, bytes: '\xc9\xc2\xd4\xc1' },
  { what: 'a GPT that its MBR does not protect, which Linux ignores', offset: 512, bytes: 'EFI PART' },
];

const FILE_SYSTEMS: readonly Content[] = [
  { what: 'an NTFS file system', offset: 3, bytes: 'NTFS    ' },
  { what: 'an exFAT file system', offset: 3, bytes: 'EXFAT   ' },
  { what: 'a FAT file system', offset: 54, bytes: 'FAT1' },
  { what: 'a FAT file system', offset: 82, bytes: 'FAT32   ' },
  { what: 'an ext2, ext3 or ext4 file system', offset: 1080, bytes: '\x53\xef' },
  { what: 'an XFS file system', offset: 0, bytes: 'XFSB' },
  { what: 'a SquashFS', offset: 0, bytes: 'hsqs' },
  { what: 'a LUKS container', offset: 0, bytes: 'LUKS\xba\xbe' },
  { what: 'an LVM physical volume', offset: 512, bytes: 'LABELONE' },
];

/** The file system or volume that begins with `head`. */
export function fileSystemOf(head: Buffer): string | undefined {
  return findSignature(FILE_SYSTEMS, head)?.what;
}

/** Why a disk that begins with `head` has no partitions, and what to do. */
export function whyNoTable(head: Buffer): string {
  const other = findSignature(TABLES, head)?.what;
  if (other !== undefined) {
    return `the disk has ${other}: mount the whole disk, and use losetup --partscan on its file`;
  }
  const fileSystem = fileSystemOf(head);
  if (fileSystem === undefined) return 'the disk has no partition table: mount it as a whole';
  return `the disk has no partition table, but ${fileSystem}: mount it as a whole`;
}
