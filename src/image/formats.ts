// The formats of disk images and of compressed files: their names, suffixes and magic numbers. Pure.
//
// Used by choice.ts, which decides the format of a file. Magic numbers are those of the formats' own documents
// (qcow2: docs/interop/qcow2.txt of QEMU; vmdk, VHD and VHDX: their makers' specifications).

import type { Coding } from '../chunks/contract/coding.js';
import { findSignature, type Signature } from '../partitions/signature.js';

/** An image's format, by its usual name. */
export type ImageFormat =
  | 'raw'
  | 'qcow2'
  | 'qcow'
  | 'qed'
  | 'vdi'
  | 'vhd'
  | 'vhdx'
  | 'vmdk'
  | 'parallels'
  | 'dmg'
  | 'bochs'
  | 'cloop'
  /** Encrypted as a whole; only with a key. */
  | 'luks';

/** How a whole file is coded; all but the last are also the name of the program that unpacks with `-d`. */
export type Compression = Exclude<Coding, 'plain' | 'deflate'>;

/** The value of `--format`: a format, a compression, or a format inside a compression. */
export interface RequestedFormat {
  readonly format: ImageFormat | undefined;
  readonly compression: Compression | undefined;
}

/** QEMU's name of a format. */
export function qemuDriver(format: ImageFormat): string {
  return format === 'vhd' ? 'vpc' : format;
}

const FORMAT_WORDS: Readonly<Record<string, ImageFormat>> = {
  raw: 'raw',
  iso: 'raw',
  qcow2: 'qcow2',
  qcow: 'qcow',
  qed: 'qed',
  vdi: 'vdi',
  vhd: 'vhd',
  vpc: 'vhd',
  vhdx: 'vhdx',
  vmdk: 'vmdk',
  parallels: 'parallels',
  dmg: 'dmg',
  bochs: 'bochs',
  cloop: 'cloop',
};

/** Suffixes of names of compressed archives. */
const COMPRESSED_ARCHIVES: Readonly<Record<string, Compression>> = {
  tgz: 'gzip',
  txz: 'xz',
  tbz: 'bzip2',
  tbz2: 'bzip2',
  tzst: 'zstd',
  tlz4: 'lz4',
};

/** Suffixes of names that indicate a format; other names indicate none. */
const SUFFIXES: Readonly<Record<string, ImageFormat>> = {
  qcow2: 'qcow2',
  qcow: 'qcow',
  qed: 'qed',
  vdi: 'vdi',
  vhd: 'vhd',
  vpc: 'vhd',
  avhd: 'vhd',
  vhdx: 'vhdx',
  avhdx: 'vhdx',
  vmdk: 'vmdk',
  hds: 'parallels',
  hdd: 'parallels',
  dmg: 'dmg',
  bochs: 'bochs',
  cloop: 'cloop',
};

/** Whether QEMU only reads images of a format. */
export function isReadOnlyFormat(format: ImageFormat): boolean {
  return ['dmg', 'bochs', 'cloop'].includes(format);
}

const COMPRESSION_WORDS: Readonly<Record<string, Compression>> = {
  xz: 'xz',
  gz: 'gzip',
  gzip: 'gzip',
  bz2: 'bzip2',
  zst: 'zstd',
  zstd: 'zstd',
  lz4: 'lz4',
  simg: 'android-sparse',
};

/** The words that `--format` takes without a compression. */
export const FORMAT_NAMES: readonly string[] = Object.keys(FORMAT_WORDS);

/** The words that `--format` takes alone, or behind a format and a dot. */
export const COMPRESSION_NAMES: readonly string[] = Object.keys(COMPRESSION_WORDS);

/** The suffix of a compression in file names. */
export function suffixOf(compression: Compression): string {
  return { xz: 'xz', gzip: 'gz', bzip2: 'bz2', zstd: 'zst', lz4: 'lz4', 'android-sparse': 'simg' }[
    compression
  ];
}

/** Parses a value of `--format`, such as `qcow2`, `raw.xz` or `xz`; undefined when it is not valid. */
export function parseFormatWord(text: string): RequestedFormat | undefined {
  const [first = '', second, ...more] = text.split('.');
  if (more.length > 0) return undefined;
  const lookUp = <T>(table: Readonly<Record<string, T>>, word: string): T | undefined =>
    Object.hasOwn(table, word) ? table[word] : undefined;
  if (second === undefined) {
    const format = lookUp(FORMAT_WORDS, first);
    const compression = lookUp(COMPRESSION_WORDS, first);
    return format === undefined && compression === undefined ? undefined : { format, compression };
  }
  const format = lookUp(FORMAT_WORDS, first);
  const compression = lookUp(COMPRESSION_WORDS, second);
  return format === undefined || compression === undefined ? undefined : { format, compression };
}

/** The format and compression that a file's name indicates. */
export function formatOfName(name: string): RequestedFormat {
  const parts = name.toLowerCase().split('.');
  let last = parts.length > 1 ? (parts.pop() ?? '') : '';
  if (Object.hasOwn(COMPRESSED_ARCHIVES, last)) {
    return { format: undefined, compression: COMPRESSED_ARCHIVES[last] };
  }
  const compression = Object.hasOwn(COMPRESSION_WORDS, last) ? COMPRESSION_WORDS[last] : undefined;
  if (compression !== undefined) last = parts.length > 1 ? (parts.pop() ?? '') : '';
  return { format: Object.hasOwn(SUFFIXES, last) ? SUFFIXES[last] : undefined, compression };
}

interface Magic<T> extends Signature {
  readonly what: T;
}

const COMPRESSION_MAGIC: readonly Magic<Compression>[] = [
  { what: 'xz', offset: 0, bytes: '\xfd7zXZ\0' },
  { what: 'gzip', offset: 0, bytes: '\x1f\x8b\x08' },
  { what: 'bzip2', offset: 0, bytes: 'BZh' },
  { what: 'zstd', offset: 0, bytes: '\x28\xb5\x2f\xfd' },
  { what: 'lz4', offset: 0, bytes: '\x04\x22\x4d\x18' },
  { what: 'lz4', offset: 0, bytes: '\x02\x21\x4c\x18' },
  { what: 'android-sparse', offset: 0, bytes: '\x3a\xff\x26\xed' },
];

const FORMAT_MAGIC: readonly Magic<ImageFormat>[] = [
  { what: 'qcow', offset: 0, bytes: 'QFI\xfb\0\0\0\x01' },
  { what: 'qcow2', offset: 0, bytes: 'QFI\xfb' },
  { what: 'qed', offset: 0, bytes: 'QED\0' },
  { what: 'vmdk', offset: 0, bytes: 'KDMV' },
  { what: 'vmdk', offset: 0, bytes: 'COWD' },
  { what: 'vmdk', offset: 0, bytes: '# Disk DescriptorFile' },
  { what: 'vdi', offset: 0x40, bytes: '\x7f\x10\xda\xbe' },
  { what: 'vhdx', offset: 0, bytes: 'vhdxfile' },
  { what: 'vhd', offset: 0, bytes: 'conectix' },
  { what: 'parallels', offset: 0, bytes: 'WithoutFreeSpace' },
  { what: 'parallels', offset: 0, bytes: 'WithouFreSpacExt' },
  { what: 'bochs', offset: 0, bytes: 'Bochs Virtual HD Image' },
  { what: 'cloop', offset: 0, bytes: '#!/bin/sh\n#V2.0 Format\nmodprobe cloop' },
];

/** Magic bytes of the last 512 bytes of a file: the footer of a VHD of fixed size, and the trailer of a dmg. */
const TAIL_MAGIC: readonly Magic<ImageFormat>[] = [
  { what: 'vhd', offset: 0, bytes: 'conectix' },
  { what: 'dmg', offset: 0, bytes: 'koly\0\0\0\x04' },
];

/** How a file that begins with `head` seems to be compressed. */
export function compressionOfContent(head: Buffer): Compression | undefined {
  return findSignature(COMPRESSION_MAGIC, head)?.what;
}

/** The format that the first and the last 512 bytes of a file indicate; `raw` when they indicate none. */
export function formatOfContent(head: Buffer, tail: Buffer = Buffer.alloc(0)): ImageFormat {
  return (findSignature(FORMAT_MAGIC, head) ?? findSignature(TAIL_MAGIC, tail))?.what ?? 'raw';
}
