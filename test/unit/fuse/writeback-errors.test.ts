// The errors of a file for fsync(2), as errseq_t of the Linux kernel has them.

import { describe, expect, test } from 'vitest';
import { WritebackErrors } from '../../../src/fuse/writeback-errors.js';

describe('writeback errors', () => {
  test('each open handle learns of an error once', () => {
    const errors = new WritebackErrors();
    errors.opened(1);
    errors.opened(2);
    expect([errors.take(1), errors.take(2)]).toEqual([false, false]);
    errors.raise();
    expect([errors.take(1), errors.take(1)]).toEqual([true, false]);
    expect([errors.take(2), errors.take(2)]).toEqual([true, false]);
    errors.raise();
    expect([errors.take(2), errors.take(1), errors.take(2), errors.take(1)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test('a handle opened later learns of an error that no handle knows', () => {
    const errors = new WritebackErrors();
    errors.raise();
    errors.opened(1);
    errors.opened(2);
    expect(errors.take(1)).toBe(true);
    errors.opened(3);
    expect([errors.take(3), errors.take(2)]).toEqual([false, true]);
  });

  test('several errors that no handle knows are reported at once', () => {
    const errors = new WritebackErrors();
    errors.opened(1);
    errors.raise();
    errors.raise();
    expect([errors.count, errors.unseen]).toEqual([1, true]);
    expect([errors.take(1), errors.take(1)]).toEqual([true, false]);
    expect([errors.count, errors.unseen]).toEqual([1, false]);
  });

  test('a closed handle leaves nothing, and an unknown one does no harm', () => {
    const errors = new WritebackErrors();
    errors.released(7);
    for (let handle = 1; handle <= 1000; handle++) {
      errors.opened(handle);
      errors.take(handle);
      errors.released(handle);
    }
    expect(errors.take(7)).toBe(false);
    errors.raise();
    expect([errors.take(7), errors.take(7)]).toEqual([true, false]);
    expect(errors.handles).toBe(0);
  });

  test('an error is unseen until an fsync reports it, even if its handle closes', () => {
    const errors = new WritebackErrors();
    errors.opened(1);
    errors.raise();
    errors.released(1);
    expect(errors.unseen).toBe(true);
    errors.opened(2);
    expect(errors.take(2)).toBe(true);
    expect(errors.unseen).toBe(false);
  });
});
