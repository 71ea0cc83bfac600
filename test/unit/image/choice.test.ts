// The detected format of a file: a table of real headers, names and options.

import { deflateRawSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { chooseCompression, chooseFormat } from '../../../src/image/choice.js';
import { ImageError } from '../../../src/image/errors.js';
import {
  formatOfContent,
  formatOfName,
  parseFormatWord,
  type RequestedFormat,
} from '../../../src/image/formats.js';

const NONE_REQUESTED: RequestedFormat = { format: undefined, compression: undefined };

/** The first bytes of images, as their programs write them. */
const HEADERS: readonly (readonly [string, Buffer])[] = [
  ['qcow2', Buffer.from('514649fb 00000003 0000000000000000 00000000 00000010'.replaceAll(' ', ''), 'hex')],
  ['qcow', Buffer.from('514649fb 00000001 0000000000000000'.replaceAll(' ', ''), 'hex')],
  ['qed', Buffer.from('51454400 00000100 04000000 01000000'.replaceAll(' ', ''), 'hex')],
  ['vmdk', Buffer.from('4b444d56 01000000 03000000 0000100000000000'.replaceAll(' ', ''), 'hex')],
  ['vmdk', Buffer.from('# Disk DescriptorFile\nversion=1\n')],
  [
    'vdi',
    Buffer.concat([
      Buffer.alloc(64, '<<< QEMU VM Virtual Disk Image >>>\n'),
      Buffer.from('7f10dabe01000100', 'hex'),
    ]),
  ],
  ['vhdx', Buffer.from('vhdxfileQ\0E\0M\0U\0')],
  ['vhd', Buffer.from('conectix\0\0\0\x02\0\x01\0\0')],
  ['raw', Buffer.alloc(512)],
  ['raw', Buffer.from('QFI')],
  ['raw', Buffer.alloc(0)],
];

describe('image format by its first bytes', () => {
  it.each(HEADERS)('is %s', (format, head) => {
    expect(formatOfContent(head)).toBe(format);
  });
});

describe('image format by its name', () => {
  it.each([
    ['disk.qcow2', 'qcow2', undefined],
    ['DISK.QCOW2', 'qcow2', undefined],
    ['disk.vpc', 'vhd', undefined],
    ['disk.vhdx.gz', 'vhdx', 'gzip'],
    ['disk.img.xz', undefined, 'xz'],
    ['disk.raw', undefined, undefined],
    ['disk.iso', undefined, undefined],
    ['disk', undefined, undefined],
    ['qcow2', undefined, undefined],
    ['.qcow2', 'qcow2', undefined],
    ['disk.tar.zst', undefined, 'zstd'],
    ['', undefined, undefined],
    ['disk.constructor', undefined, undefined],
  ])('%s', (name, format, compression) => {
    expect(formatOfName(name)).toEqual({ format, compression });
  });
});

describe('--format', () => {
  it.each([
    ['qcow2', { format: 'qcow2', compression: undefined }],
    ['iso', { format: 'raw', compression: undefined }],
    ['vpc', { format: 'vhd', compression: undefined }],
    ['xz', { format: undefined, compression: 'xz' }],
    ['raw.gz', { format: 'raw', compression: 'gzip' }],
    ['zip', undefined],
    ['xz.raw', undefined],
    ['raw.xz.gz', undefined],
    ['toString', undefined],
    ['', undefined],
  ])('%s', (word, requested) => {
    expect(parseFormatWord(word)).toEqual(requested);
  });
});

describe('image format', () => {
  it('is that of name and content, when they agree', () => {
    for (const [format, head] of HEADERS) {
      const name = format === 'raw' ? 'disk.img' : `disk.${format}`;
      expect(chooseFormat({ name, head }, NONE_REQUESTED)).toBe(format);
    }
  });

  it('without a matching name is always raw', () => {
    for (const [format, head] of HEADERS) {
      for (const name of ['disk', 'disk.raw', 'disk.img', 'disk.iso', 'sda', 'the export']) {
        const choose = (): string => chooseFormat({ name, head }, NONE_REQUESTED);
        if (format === 'raw') expect(choose()).toBe('raw');
        else
          expect(choose).toThrow(
            new RegExp(`looks like a ${format} image.*--format=${format} if you trust it`),
          );
      }
    }
  });

  it('that differs from the name needs --format', () => {
    for (const [format, head] of HEADERS) {
      const name = format === 'vdi' ? 'disk.qcow2' : 'disk.vdi';
      expect(() => chooseFormat({ name, head }, NONE_REQUESTED)).toThrow(ImageError);
    }
  });

  it('is that of --format, whatever the content looks like', () => {
    for (const [, head] of HEADERS)
      expect(chooseFormat({ name: 'disk.vdi', head }, { ...NONE_REQUESTED, format: 'raw' })).toBe('raw');
  });

  it('rests on a footer alone if the name agrees', () => {
    const tail = Buffer.alloc(512);
    tail.write('conectix');
    const head = Buffer.alloc(512);
    expect(chooseFormat({ name: 'disk.vhd', head, tail }, NONE_REQUESTED)).toBe('vhd');
    expect(() => chooseFormat({ name: 'disk.img', head, tail }, NONE_REQUESTED)).toThrow(
      /looks like a vhd image/,
    );
    expect(() => chooseFormat({ name: 'disk.vhd', head }, NONE_REQUESTED)).toThrow(/should be a vhd image/);
  });
});

describe('image in a file that is compressed twice', () => {
  it.each([
    ['gzip', gzipSync('text')],
    ['xz', Buffer.from('fd377a585a000004', 'hex')],
  ])('is refused: %s inside', (inner, head) => {
    expect(() => chooseFormat({ name: 'disk.img.gz', head }, NONE_REQUESTED)).toThrow(
      `disk.img.gz is a file compressed with ${inner}, not a raw disk: unpack it first (${inner} -d), or use --format=raw`,
    );
  });
});

describe('image compression', () => {
  const xz = Buffer.from('fd377a585a000004', 'hex');
  const gzip = gzipSync('text');

  it.each([
    ['disk.xz', xz, NONE_REQUESTED, 'xz'],
    ['disk.img.gz', gzip, NONE_REQUESTED, 'gzip'],
    ['disk.img', Buffer.alloc(8), NONE_REQUESTED, undefined],
    ['download', xz, { format: 'raw', compression: 'xz' }, 'xz'],
    ['disk.img', xz, { format: 'raw', compression: undefined }, undefined],
    ['disk.xz', xz, { format: 'raw', compression: undefined }, 'xz'],
    ['disk.xz', Buffer.alloc(8), { format: 'raw', compression: undefined }, undefined],
  ] as const)('%s is detected', (name, head, requested, compression) => {
    expect(chooseCompression({ name, head }, requested)).toBe(compression);
  });

  it('is none of a dmg, whose first block may begin like such a file', () => {
    const tail = Buffer.alloc(512);
    tail.write('koly\0\0\0\x04', 'latin1');
    expect(chooseCompression({ name: 'disk.dmg', head: xz, tail }, NONE_REQUESTED)).toBeUndefined();
    expect(chooseCompression({ name: 'disk.dmg.xz', head: xz, tail }, NONE_REQUESTED)).toBe('xz');
  });

  it('counts whatever the name says if the user names a file in it', () => {
    for (const format of [undefined, 'qcow2'] as const)
      expect(chooseCompression({ name: 'a.box', head: gzip }, { ...NONE_REQUESTED, format }, true)).toBe(
        'gzip',
      );
  });

  it.each([
    ['disk.img', xz, /looks like a file compressed with xz.*--format=xz to decompress it/],
    [
      'disk.xz',
      Buffer.from('LZIP\x01', 'latin1'),
      /should be compressed with xz, but is a file compressed with lzip: unpack it first \(lzip -d\)$/,
    ],
    [
      'page.gz',
      Buffer.from('<!doctype html>'),
      /should be compressed with gzip, but is a web page: check what you have downloaded$/,
    ],
    ['disk.xz', gzip, /should be compressed with xz, but looks like gzip: rename it$/],
    [
      'disk.gz',
      deflateRawSync('text'),
      /^disk\.gz should be compressed with gzip, but does not look like it: get it again, or use --format=raw to serve it unchanged$/,
    ],
  ])('%s that disagrees with the name needs --format', (name, head, message) => {
    expect(() => chooseCompression({ name, head }, NONE_REQUESTED)).toThrow(message);
  });
});
