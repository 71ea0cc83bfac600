// Whether a compressed file agrees with a size that its disk claims.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { agrees, canHold } from '../../../../src/chunks/reader/size-hint.js';
import { createScope } from '../../../support/cleanup.js';
import { requireProgram } from '../../../support/run/requires.js';

const run = (name: string, args: readonly string[], input?: string | Buffer): Buffer =>
  execFileSync(requireProgram(name), args, { input: input ?? '', stdio: ['pipe', 'pipe', 'ignore'] });

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

it.each([
  ['gzip', 1032],
  ['deflate', 1032],
  ['zstd', 32_768],
] as const)('a byte of %s holds at most %i bytes', (coding, ratio) => {
  expect(canHold(coding, 1000, 1000 * ratio)).toBe(true);
  expect(canHold(coding, 1000, 1000 * ratio + 1)).toBe(false);
});
