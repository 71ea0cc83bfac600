// The contents that the kill runs accept.

import { expect, it } from 'vitest';
import { BLOCK, BlockModel } from '../../../../tools/kills/block-model.js';

const DISK = 7;

it('block model: a block may have any content from the flushed one to the newest', () => {
  const model = new BlockModel(2, DISK);
  const initial = model.image;
  const first = model.write(0, 1);
  const flushed = model.flush();
  const second = model.write(0, 1);
  flushed();
  expect(() => model.check(0, first, false)).not.toThrow();
  expect(() => model.check(0, second, false)).not.toThrow();
  expect(() => model.check(0, first, true)).toThrow(/block 0 has "disk 7 block 0 content 1/);
  expect(() => model.check(0, initial.subarray(0, BLOCK), false)).toThrow(/not content 1 to 2/);
  expect(() => model.check(1, initial.subarray(BLOCK), true)).not.toThrow();
});

it('block model: a torn block, and one of another place or disk, is a finding', () => {
  const model = new BlockModel(2, DISK);
  const written = model.write(0, 2);
  const torn = Buffer.concat([written.subarray(0, BLOCK / 2), model.image.subarray(BLOCK / 2, BLOCK)]);
  for (const bytes of [torn, written.subarray(BLOCK), new BlockModel(2, DISK + 1).image])
    expect(() => model.check(0, bytes.subarray(0, BLOCK), false)).toThrow(/block 0/);
});

it('block model: after a kill, the contents found are the only ones', () => {
  const model = new BlockModel(1, DISK);
  const [first, second] = [model.write(0, 1), model.write(0, 1)];
  model.settle(first);
  expect(() => model.check(0, first, true)).not.toThrow();
  expect(() => model.check(0, second, false)).toThrow();
});
