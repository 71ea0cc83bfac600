// The size that a disk claims, against the tools that make disks, and whether its compressed file agrees.

import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { agrees, claimedSize, HINT_LENGTH } from '../../../../src/chunks/reader/size-hint.js';
import { createScope } from '../../../support/cleanup.js';
import { requireProgram } from '../../../support/run/requires.js';

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
    expect(claimedSize(bytes)).toBe(bytes.length);
  });

  it.each(['ext2', 'ext4'])('is the size of its %s file system', (type) => {
    const bytes = disk(4 * 1024 * 1024, (file) => run(`mkfs.${type}`, ['-q', '-F', file]));
    expect(claimedSize(bytes)).toBe(bytes.length);
  });

  it('is unknown for others', () => {
    expect(claimedSize(new Uint8Array(HINT_LENGTH))).toBeUndefined();
    expect(claimedSize(new Uint8Array(100))).toBeUndefined();
  });
});

describe('compressed file', () => {
  it.each([0, 100, 255, 256, 70_000, 1_000_000])('agrees with the size of %i bytes', (size) => {
    const bytes = Buffer.alloc(size, 'x');
    const file = createScope().path('data');
    writeFileSync(file, bytes);
    const gzip = run('gzip', ['-c', file]);
    expect(agrees('gzip', size, gzip.subarray(0, 18), gzip.subarray(-4))).toBe(true);
    expect(agrees('gzip', size + 1, gzip.subarray(0, 18), gzip.subarray(-4))).toBe(false);
    const zstd = run('zstd', ['-c', file]);
    expect(agrees('zstd', size, zstd.subarray(0, 18), zstd.subarray(-4))).toBe(size > 0 || zstd.length >= 18);
    expect(agrees('zstd', size + 1, zstd.subarray(0, 18), zstd.subarray(-4))).toBe(false);
  });
});
