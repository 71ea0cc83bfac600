// The requests for a part of a disk, as those for the disk that the dispatcher passes on.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ENOSPC } from '../../../../src/constants/errno.js';
import {
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  FUSE_FALLOCATE,
  FUSE_FSYNC,
  FUSE_READ,
  FUSE_WRITE,
  FUSE_WRITE_CACHE,
} from '../../../../src/fuse/constants.js';
import {
  FALLOCATE_LENGTH,
  FALLOCATE_MODE,
  FALLOCATE_OFFSET,
  HOST_ENDIAN,
  IN_HEADER,
  IO_SIZE,
  WRITE_FLAGS,
} from '../../../../src/fuse/layout.js';
import { Tree } from '../../../../src/fuse/tree.js';
import type { Disk } from '../../../../src/worker/disk/disk.js';
import { DiskPart } from '../../../../src/worker/fuse/disk-parts.js';

const NOW = 1000;

function partOf(offset: bigint, size: bigint): DiskPart {
  const options = { uid: 0, gid: 0, umask: 0, now: 0 };
  const { root: node } = new Tree([{ name: '', size, readOnly: false, blockSize: 4096 }], true, options);
  const description = { name: 'p1', number: 1, offset, size, type: '0x83', label: '', uuid: '' };
  return new DiskPart({} as Disk, node, description);
}

const newView = (): DataView => new DataView(new ArrayBuffer(128));

function transfer(offset: bigint, size: number, flags = 0): DataView {
  const view = newView();
  view.setBigUint64(IN_HEADER + 8, offset, HOST_ENDIAN);
  view.setUint32(IO_SIZE, size, HOST_ENDIAN);
  view.setUint32(WRITE_FLAGS, flags, HOST_ENDIAN);
  return view;
}

const placeIn = (view: DataView) => [
  view.getBigUint64(IN_HEADER + 8, HOST_ENDIAN),
  view.getUint32(IO_SIZE, HOST_ENDIAN),
];

function fallocate(offset: bigint, length: bigint, mode: number): DataView {
  const view = newView();
  view.setBigUint64(FALLOCATE_OFFSET, offset, HOST_ENDIAN);
  view.setBigUint64(FALLOCATE_LENGTH, length, HOST_ENDIAN);
  view.setUint32(FALLOCATE_MODE, mode, HOST_ENDIAN);
  return view;
}

const rangeIn = (view: DataView) => [
  view.getBigUint64(FALLOCATE_OFFSET, HOST_ENDIAN),
  view.getBigUint64(FALLOCATE_LENGTH, HOST_ENDIAN),
];

describe('disk part', () => {
  const START = 0xffff_ff00n;
  const SIZE = 0x1_0000n;

  it.each([
    ['its beginning', 0n, 512, START, 512],
    ['a place after 4 GiB of the disk', 0x200n, 512, 0x1_0000_0100n, 512],
    ['its end', SIZE - 100n, 512, START + SIZE - 100n, 100],
    ['bytes after it', SIZE, 512, START + SIZE, 0],
    ['bytes far after it', 2n ** 63n - 1n, 512, START + SIZE, 0],
  ] as const)('moves a READ of %s', (_, offset, size, start, count) => {
    const view = transfer(offset, size);
    expect(partOf(START, SIZE).translate(FUSE_READ, view, NOW)).toBe(0);
    expect(placeIn(view)).toEqual([start, count]);
  });

  it('cuts a WRITE at its end, and fails one after it, or of a cached page that is longer', () => {
    const part = partOf(START, SIZE);
    const view = transfer(SIZE - 100n, 512);
    expect(part.translate(FUSE_WRITE, view, NOW)).toBe(0);
    expect(placeIn(view)).toEqual([START + SIZE - 100n, 100]);
    expect(part.node.mtime).toBe(NOW);
    expect(part.translate(FUSE_WRITE, transfer(SIZE, 1), NOW)).toBe(ENOSPC);
    expect(part.translate(FUSE_WRITE, transfer(SIZE - 100n, 512, FUSE_WRITE_CACHE), NOW)).toBe(ENOSPC);
  });

  it('cuts a FALLOCATE at its end, and fails one that would enlarge it', () => {
    const part = partOf(START, SIZE);
    const view = fallocate(100n, 2n ** 62n, FALLOC_FL_PUNCH_HOLE);
    expect(part.translate(FUSE_FALLOCATE, view, NOW)).toBe(0);
    expect(rangeIn(view)).toEqual([START + 100n, SIZE - 100n]);
    expect(part.translate(FUSE_FALLOCATE, fallocate(SIZE, 1n, FALLOC_FL_ZERO_RANGE), NOW)).toBe(ENOSPC);
  });

  it('leaves other requests alone', () => {
    const view = transfer(5n, 5);
    expect(partOf(START, SIZE).translate(FUSE_FSYNC, view, NOW)).toBe(0);
    expect(placeIn(view)).toEqual([5n, 5]);
  });

  it('never lets a request leave its bytes', () => {
    const offset = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(offset, offset, offset, fc.integer({ min: 0, max: 2 ** 20 }), (start, size, at, length) => {
        fc.pre(start + size < 2n ** 63n);
        const inside = (place: bigint, count: bigint): boolean =>
          place >= start && place + count <= start + size;
        const part = partOf(start, size);
        const read = transfer(at, length);
        expect(part.translate(FUSE_READ, read, NOW)).toBe(0);
        expect(
          inside(read.getBigUint64(IN_HEADER + 8, HOST_ENDIAN), BigInt(read.getUint32(IO_SIZE, HOST_ENDIAN))),
        ).toBe(true);
        const punch = fallocate(at, BigInt(length), FALLOC_FL_PUNCH_HOLE);
        expect(part.translate(FUSE_FALLOCATE, punch, NOW)).toBe(0);
        const [place, count] = rangeIn(punch);
        expect(inside(place, count)).toBe(true);
      }),
    );
  });
});
