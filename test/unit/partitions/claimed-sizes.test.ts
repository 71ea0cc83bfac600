// The sizes that a disk claims, against the tools that make disks.

import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { claimedSizes, HINT_LENGTH, wholeSizes } from '../../../src/partitions/claimed-sizes.js';
import { createScope } from '../../support/cleanup.js';
import { requireProgram } from '../../support/run/requires.js';

function disk(size: number, make: (file: string) => void): Buffer {
  const file = createScope().path('disk');
  writeFileSync(file, '');
  truncateSync(file, size);
  make(file);
  return readFileSync(file);
}

const run = (name: string, args: readonly string[], input?: string | Buffer): Buffer =>
  execFileSync(requireProgram(name), args, { input: input ?? '', stdio: ['pipe', 'pipe', 'ignore'] });

describe('size that a disk claims', () => {
  it('is the end of its GPT', () => {
    const bytes = disk(3 * 1024 * 1024 + 512, (file) => run('sfdisk', [file], 'label: gpt\n'));
    expect(wholeSizes(bytes)).toEqual([bytes.length]);
  });

  it.each(['ext2', 'ext4'])('is the size of its %s file system', (type) => {
    const bytes = disk(4 * 1024 * 1024, (file) => run(`mkfs.${type}`, ['-q', '-F', file]));
    expect(claimedSizes(bytes)).toEqual([bytes.length]);
  });

  it('is the end of the last partition of its MBR', () => {
    const table = 'label: dos\n2048,2048,c\n4096,,83\n';
    const bytes = disk(4 * 1024 * 1024 + 512, (file) => run('sfdisk', [file], table));
    expect(claimedSizes(bytes)).toContain(bytes.length);
    expect(wholeSizes(bytes)).toEqual([]);
  });

  it('is the size of its XFS', () => {
    const bytes = disk(400 * 1024 * 1024, (file) => run('mkfs.xfs', ['-q', file])).subarray(0, 262_144);
    expect(claimedSizes(bytes)).toEqual([400 * 1024 * 1024]);
  });

  it('is the size of a FAT, with either number of sectors', () => {
    for (const [few, many, size] of [
      [2880, 0, 1_474_560],
      [0, 131_072, 67_108_864],
    ] as const) {
      const head = new Uint8Array(HINT_LENGTH);
      const view = new DataView(head.buffer);
      view.setUint16(11, 512, true);
      view.setUint16(19, few, true);
      view.setUint32(32, many, true);
      view.setUint16(510, 0xaa55, true);
      expect(claimedSizes(head)).toEqual([size]);
    }
  });

  it('is the size of an ISO 9660 volume', () => {
    const head = new Uint8Array(262_144);
    const view = new DataView(head.buffer);
    new TextEncoder().encodeInto('\x01CD001', head.subarray(32_768));
    view.setUint32(32_768 + 80, 1000, true);
    view.setUint16(32_768 + 128, 2048, true);
    expect(claimedSizes(head)).toEqual([2_048_000]);
    expect(claimedSizes(head.subarray(0, HINT_LENGTH))).toEqual([]);
  });

  it('is unknown for others', () => {
    expect(claimedSizes(new Uint8Array(HINT_LENGTH))).toEqual([]);
    expect(claimedSizes(new Uint8Array(100))).toEqual([]);
    expect(claimedSizes(new Uint8Array(262_144).fill(0xff))).toEqual([]);
  });
});
