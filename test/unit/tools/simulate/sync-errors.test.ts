import { describe, expect, it } from 'vitest';
import { SyncErrors } from '../../../../tools/simulate/sync-errors.js';

/** The errors of a file with handles 1 and 2 open, and a clock. */
function setUp() {
  const errors = new SyncErrors();
  let now = 10;
  const tick = (): number => ++now;
  const open = (handle: number): void => errors.opened(handle, tick(), tick());
  const sync = (handle: number) => ({ handle, name: 'fsync', begin: tick(), now: tick() });
  open(1);
  open(2);
  return { errors, tick, open, sync };
}

describe('simulator: the rule of fsync', () => {
  it('lets each handle fail once for an error', () => {
    const { errors, tick, sync } = setUp();
    errors.succeeded(sync(1));
    errors.raised('a loss', tick());
    errors.failed(sync(1));
    errors.succeeded(sync(1));
    expect(() => errors.failed(sync(1))).toThrow(/knows of every error/);
    expect(() => errors.succeeded(sync(2))).toThrow(/does not know: a loss/);
    errors.failed(sync(2));
    errors.succeeded(sync(2));
  });

  it('lets each handle fail for each of two errors that came together', () => {
    const { errors, tick, sync } = setUp();
    errors.raised('a failed FLUSH', tick());
    errors.raised('another one', tick());
    errors.failed(sync(1));
    errors.failed(sync(2));
    errors.failed(sync(1));
    expect(() => errors.failed(sync(1))).toThrow(/knows of every error/);
  });

  it('wants a later handle to fail only if no other has', () => {
    const { errors, tick, open, sync } = setUp();
    errors.raised('a loss', tick());
    open(3);
    expect(errors.due).toEqual([1, 2, 3]);
    errors.failed(sync(1));
    open(4);
    errors.succeeded(sync(4));
    expect(() => errors.succeeded(sync(3))).toThrow(/does not know/);
  });

  it('lets an fsync fail without a server, which reports nothing for certain', () => {
    const { errors, tick, sync } = setUp();
    errors.isAway(true, tick());
    errors.failed(sync(1));
    errors.isAway(false, tick());
    expect(() => errors.failed(sync(1))).toThrow(/knows of every error/);
  });

  it('does not expect the error of a FLUSH that fails during the fsync', () => {
    const { errors, tick } = setUp();
    const begin = tick();
    errors.raised('a loss', tick());
    errors.succeeded({ handle: 1, name: 'fsync', begin, now: tick() });
  });
});
