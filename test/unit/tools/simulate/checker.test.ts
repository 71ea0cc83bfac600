import { describe, expect, it } from 'vitest';
import { Checker } from '../../../../tools/simulate/checker.js';
import { FIRST_CONTENT } from '../../../../tools/simulate/units.js';

/** A checker of a few units, with a clock. */
function setUp() {
  const checker = new Checker(4);
  let now = 10;
  const tick = (): number => ++now;
  const begin = (content: number) => checker.begins(content, `#${content}`, 0, 1, tick());
  return { checker, tick, begin };
}

describe('simulator checker: reads', () => {
  it('may return an unanswered write or the content before it', () => {
    const { checker, tick, begin } = setUp();
    begin(1);
    checker.read(0, FIRST_CONTENT, tick(), tick());
    checker.read(0, 1, tick(), tick());
  });

  it('must not return content that an acknowledged write has replaced', () => {
    const { checker, tick, begin } = setUp();
    checker.ends(begin(1), 'acknowledged', tick());
    expect(() => checker.read(0, FIRST_CONTENT, tick(), tick())).toThrow(/#1 .*was acknowledged/);
  });

  it('may return the old content if they began before the acknowledgement', () => {
    const { checker, tick, begin } = setUp();
    const change = begin(1);
    const began = tick();
    checker.ends(change, 'acknowledged', tick());
    checker.read(0, FIRST_CONTENT, began, tick());
  });

  it('must not go back behind the result of an earlier read', () => {
    const { checker, tick, begin } = setUp();
    begin(1);
    checker.read(0, 1, tick(), tick());
    expect(() => checker.read(0, FIRST_CONTENT, tick(), tick())).toThrow(/was read/);
  });

  it('may return either of two writes at once, but not by turns', () => {
    const { checker, tick, begin } = setUp();
    const [one, two] = [begin(1), begin(2)];
    checker.ends(one, 'acknowledged', tick());
    checker.ends(two, 'acknowledged', tick());
    checker.read(0, 1, tick(), tick());
    expect(() => checker.read(0, 2, tick(), tick())).toThrow(/#1 was read/);
  });

  it('must not return an interrupted write once a newer one is acknowledged', () => {
    const { checker, tick, begin } = setUp();
    checker.ends(begin(1), 'interrupted', tick());
    checker.read(0, FIRST_CONTENT, tick(), tick());
    checker.read(0, 1, tick(), tick());
    checker.ends(begin(2), 'acknowledged', tick());
    expect(() => checker.read(0, 1, tick(), tick())).toThrow(/#1 \(interrupted\).*#2 was acknowledged/);
  });
});

describe('simulator checker: the disk at the end', () => {
  it('must have the newest acknowledged write', () => {
    const { checker, tick, begin } = setUp();
    checker.ends(begin(1), 'interrupted', tick());
    checker.ends(begin(2), 'acknowledged', tick());
    checker.isOnDisk(0, 2, false);
    expect(() => checker.isOnDisk(0, 1, false)).toThrow(/right is .*#2/);
  });

  it('may lack uncovered changes after a reported loss, but nothing older', () => {
    const { checker, tick, begin } = setUp();
    checker.ends(begin(1), 'acknowledged', tick());
    const synced = tick();
    checker.synced(synced, tick());
    checker.ends(begin(2), 'acknowledged', tick());
    checker.loses(checker.atRisk);
    checker.isOnDisk(0, 1, true);
    expect(() => checker.isOnDisk(0, FIRST_CONTENT, true)).toThrow(/fsync/);
  });

  it('may have a write that failed, or not', () => {
    const { checker, tick, begin } = setUp();
    checker.ends(begin(1), 'failed', tick());
    checker.isOnDisk(0, 1, false);
    checker.isOnDisk(0, FIRST_CONTENT, false);
  });
});
