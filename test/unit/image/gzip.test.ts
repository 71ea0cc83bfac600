import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { refuseSeveralStreams } from '../../../src/image/bzip2.js';
import { gzipHeaderLength, lookAtGzip } from '../../../src/image/gzip.js';
import { readerOf } from '../../support/disk-reader.js';

const disk = Buffer.concat([Buffer.alloc(3_000_000, 'the disk; '), Buffer.alloc(512, 'its last bytes')]);
const packed = gzipSync(disk);
const look = (...parts: Buffer[]) => lookAtGzip('disk.gz', readerOf(Buffer.concat(parts)));

describe('gzip', () => {
  it('gives the first and last bytes of the disk', async () => {
    const { head, tail, lines } = await look(packed);
    expect(head.equals(disk.subarray(0, 65_536))).toBe(true);
    expect(tail.equals(disk.subarray(-512))).toBe(true);
    expect(lines).toBeUndefined();
  });

  it.each<[string, Buffer]>([
    ['another disk', gzipSync(Buffer.from('more'))],
    ['the same disk again', packed],
    ['an empty one', gzipSync(Buffer.alloc(0))],
  ])('refuses several members: %s', async (_, more) => {
    await expect(look(packed, more)).rejects.toThrow(
      'disk.gz has several gzip members, and nbdkit reads only the first: unpack it first (gzip -d), or ' +
        'recompress it in blocks, with xz --block-size=16MiB',
    );
  });

  it('takes zeros after the end as padding, and reports other bytes', async () => {
    expect((await look(packed, Buffer.alloc(2_000_000))).lines).toBeUndefined();
    expect((await look(packed, Buffer.from('signature\0\0'))).lines).toEqual([
      'disk.gz has 9 bytes after its end, which nbdfuse ignores as gzip does',
    ]);
  });

  it.each([1, 4, 7, 8, 9, 1000, packed.length - 5])(
    'reports a file without its last %i bytes',
    async (missing) => {
      await expect(look(packed.subarray(0, packed.length - missing))).rejects.toThrow(
        'disk.gz ends too early: get it again, and check it with gzip -t',
      );
    },
  );

  it('reports wrong bytes and a wrong length', async () => {
    const bytes = Buffer.from(packed);
    bytes.fill(0xff, 100, 200);
    await expect(look(bytes)).rejects.toThrow('disk.gz is damaged: ');
    bytes.set(packed);
    bytes[bytes.length - 4] ^= 1;
    await expect(look(bytes)).rejects.toThrow('disk.gz is damaged: ');
  });

  it('reports bytes that inflate, but that the checksum does not have', async () => {
    const stored = gzipSync(disk, { level: 0 });
    await look(stored);
    stored[2_000_000] ^= 1;
    await expect(look(stored)).rejects.toThrow('disk.gz is damaged: get it again, and check it with gzip -t');
  });

  it('knows the optional parts of the header', () => {
    const fixed = (flags: number): Buffer => Buffer.from([0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3]);
    const [extra, name, crc] = ['\x02\0xy', 'a name\0', '\0\0'].map((text) => Buffer.from(text));
    expect(gzipHeaderLength(fixed(0))).toBe(10);
    expect(gzipHeaderLength(Buffer.concat([fixed(4), extra]))).toBe(14);
    expect(gzipHeaderLength(Buffer.concat([fixed(2 + 4 + 8 + 16), extra, name, name, crc]))).toBe(30);
    expect(gzipHeaderLength(Buffer.concat([fixed(8), Buffer.from('no end')]))).toBeUndefined();
    expect(gzipHeaderLength(Buffer.concat([fixed(4), Buffer.from('\xff\xff')]))).toBeUndefined();
  });
});

describe('bzip2', () => {
  const stream = Buffer.from('BZh91AY&SYxxxx');
  const check = (...parts: Buffer[]) => refuseSeveralStreams('disk.bz2', readerOf(Buffer.concat(parts)));

  it('takes one stream', async () => {
    await check(stream, Buffer.alloc(3_000_000, 'BZh9'));
  });

  it.each([0, 1024 * 1024 - 14 - 5, 2_500_000])(
    'refuses another stream %i bytes behind the first',
    async (far) => {
      await expect(check(stream, Buffer.alloc(far), stream)).rejects.toThrow(
        'disk.bz2 has several bzip2 streams, and nbdkit reads only the first: ',
      );
    },
  );
});
