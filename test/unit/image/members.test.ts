// The files of archives: those of tar and zip as their programs write them are in test/system/real/image-archives.

import { describe, expect, it } from 'vitest';
import { ImageError } from '../../../src/image/errors.js';
import { archiveOfName, archiveToOpen, findMember, isDisk } from '../../../src/image/members.js';
import { tarMembers } from '../../../src/image/tar.js';
import { zipMembers } from '../../../src/image/zip.js';
import { readerOf } from '../../support/disk-reader.js';

describe('archive by its name', () => {
  it.each([
    ['a.zip', 'zip'],
    ['A.ZIP', 'zip'],
    ['vm.ova', 'tar'],
    ['a.tar', 'tar'],
    ['a.tar.gz', 'tar'],
    ['a.tgz', 'tar'],
    ['a.img', undefined],
    ['zip', undefined],
    ['a.zip.img', undefined],
  ])('%s', (name, kind) => {
    expect(archiveOfName(name)).toBe(kind);
  });

  it('is opened only if the content agrees, and never with --format=raw', () => {
    const none = { format: undefined, compression: undefined };
    const head = Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(508)]);
    expect(archiveToOpen({ name: 'a.zip', head }, none, undefined)).toBe('zip');
    expect(archiveToOpen({ name: 'a.img', head }, none, undefined)).toBeUndefined();
    expect(archiveToOpen({ name: 'a.img', head }, none, 'x')).toBe('zip');
    expect(archiveToOpen({ name: 'a.zip', head }, { ...none, format: 'qcow2' }, undefined)).toBe('zip');
    expect(archiveToOpen({ name: 'a.zip', head }, { ...none, format: 'raw' }, undefined)).toBeUndefined();
    const other = Buffer.alloc(512);
    expect(() => archiveToOpen({ name: 'a.zip', head: other }, none, undefined)).toThrow(
      'should be a zip archive',
    );
    expect(() => archiveToOpen({ name: 'a.img', head: other }, none, 'x')).toThrow('neither a zip nor a tar');
    expect(archiveToOpen({ name: 'a.zip.gz', head }, none, undefined)).toBe('zip');
    const program = Buffer.concat([Buffer.from('MZ'), Buffer.alloc(510)]);
    const tail = Buffer.concat([Buffer.alloc(490), Buffer.from('PK\x05\x06'), Buffer.alloc(18)]);
    expect(archiveToOpen({ name: 'a.zip', head: program, tail }, none, undefined)).toBe('zip');
    expect(archiveToOpen({ name: 'a.exe', head: program, tail }, none, undefined)).toBeUndefined();
    expect(archiveToOpen({ name: 'a.exe', head: program, tail }, none, 'x')).toBe('zip');
    expect(() => archiveToOpen({ name: 'a.tgz', head: other }, none, undefined)).toThrow(
      /^a\.tgz should be a tar archive, but does not look like one: use --format=raw\.gz if it is raw$/,
    );
  });
});

it('disk in an archive: is known by its name or its first bytes', () => {
  const with_ = (at: number, bytes: string): Buffer => {
    const head = Buffer.alloc(65_536);
    head.write(bytes, at, 'latin1');
    return head;
  };
  for (const name of ['a.img', 'a.ISO', 'a.qcow2', 'a.vmdk'])
    expect(isDisk(name, Buffer.alloc(0))).toBe(true);
  for (const [at, bytes] of [
    [0, 'QFI\xfb'],
    [1080, '\x53\xef'],
    [32_769, 'CD001'],
    [3, 'NTFS    '],
  ] as const) {
    expect(isDisk('disk', with_(at, bytes))).toBe(true);
  }
  expect(isDisk('README', with_(0, 'text'))).toBe(false);
  expect(isDisk('__MACOSX/._disk.img', Buffer.alloc(0))).toBe(false);
});

describe('zip archive of one file', () => {
  /** A zip with the file `a.img`, stored, of these contents, and a comment. */
  function zipOf(comment: Buffer, ...contents: readonly Buffer[]): Buffer {
    const locals = contents.map((content) => {
      const local = Buffer.alloc(35);
      local.writeUInt32LE(0x04034b50);
      local.writeUInt16LE(5, 26);
      local.write('a.img', 30);
      return Buffer.concat([local, content]);
    });
    const entries = contents.map((content, i) => {
      const entry = Buffer.alloc(51);
      entry.writeUInt32LE(0x02014b50);
      entry.writeUInt32LE(content.length, 20);
      entry.writeUInt32LE(content.length, 24);
      entry.writeUInt16LE(5, 28);
      entry.writeUInt32LE(Buffer.concat(locals.slice(0, i)).length, 42);
      entry.write('a.img', 46);
      return entry;
    });
    const end = Buffer.alloc(22);
    end.writeUInt32LE(0x06054b50);
    end.writeUInt32LE(Buffer.concat(entries).length, 12);
    end.writeUInt32LE(Buffer.concat(locals).length, 16);
    end.writeUInt16LE(comment.length, 20);
    return Buffer.concat([...locals, ...entries, end, comment]);
  }
  const ZIP = {
    shown: 'a.zip',
    kind: 'zip',
    isCompressed: false,
    requested: { format: undefined, compression: undefined },
  } as const;
  const [older, newer] = [Buffer.alloc(4096, 'older'), Buffer.alloc(4096, 'newer')];

  it('is the last one of its name', async () => {
    for (const wanted of [undefined, 'a.img']) {
      const { look } = await findMember({ ...ZIP, wanted }, readerOf(zipOf(Buffer.alloc(0), older, newer)));
      expect(look.head.equals(newer)).toBe(true);
    }
  });

  it('is found whatever its comment, or bytes after its end, look like', async () => {
    const end = Buffer.concat([Buffer.from('PK\x05\x06'), Buffer.alloc(18), Buffer.from('x')]);
    for (const file of [
      zipOf(end, newer),
      Buffer.concat([zipOf(Buffer.alloc(0), newer), Buffer.from('more')]),
    ])
      expect((await findMember({ ...ZIP, wanted: undefined }, readerOf(file))).look.head.equals(newer)).toBe(
        true,
      );
  });

  it.each([
    [9, 'unzip'],
    [14, '7z x'],
    [99, '7z x'],
  ])('is refused with the program that knows its method %i', async (method, program) => {
    const file = zipOf(Buffer.alloc(0), newer);
    file.writeUInt16LE(method, file.length - 22 - 51 + 10);
    await expect(findMember({ ...ZIP, wanted: undefined }, readerOf(file))).rejects.toThrow(
      `a.zip: a.img is compressed in the archive, and nbdfuse does not open it there yet: unpack it first (${program})`,
    );
  });

  it.each([2n ** 53n, 2n ** 64n - 2n])('is refused as damaged where it claims %i bytes', async (size) => {
    const whole = zipOf(Buffer.alloc(0), newer);
    const at = whole.length - 22 - 51;
    const extra = Buffer.alloc(12);
    extra.writeUInt16LE(1, 0);
    extra.writeUInt16LE(8, 2);
    extra.writeBigUInt64LE(size, 4);
    whole.writeUInt16LE(8, at + 10);
    whole.writeUInt32LE(0xffff_ffff, at + 24);
    whole.writeUInt16LE(extra.length, at + 30);
    whole.writeUInt32LE(51 + extra.length, whole.length - 22 + 12);
    const file = Buffer.concat([whole.subarray(0, -22), extra, whole.subarray(-22)]);
    const listed = zipMembers('a.zip', readerOf(file));
    await expect(listed).rejects.toThrow('a.zip is damaged, or ends too early: get it again');
  });
});

it('archives of any bytes: are listed or refused, without another error', async () => {
  let seed = 3;
  const random = (): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed >> 16;
  };
  for (let i = 0; i < 500; i++) {
    const bytes = Buffer.from(Array.from({ length: 700 + (random() % 2000) }, () => random() % 7));
    const end = bytes.length - 22;
    bytes.writeUInt32LE(0x06054b50, end);
    bytes.writeUInt32LE(random() % 200, end + 12);
    bytes.writeUInt32LE(random() % 700, end + 16);
    if (i % 2 === 0) bytes.writeUInt32LE(0x02014b50, bytes.readUInt32LE(end + 16));
    for (const list of [zipMembers, tarMembers]) {
      const result = await list('x', readerOf(bytes)).catch((error: unknown) => error);
      expect(Array.isArray(result) || result instanceof ImageError).toBe(true);
    }
  }
});
