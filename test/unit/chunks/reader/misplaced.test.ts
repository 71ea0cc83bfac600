// Units whose place in the image turns out to be wrong.

import { expect, it } from 'vitest';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import { START } from '../../../../src/chunks/contract/coding.js';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { Reader } from '../../../../src/chunks/reader/reader.js';
import type { SourceEvents } from '../../../../src/chunks/reader/source.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { PointMap } from '../../../../src/chunks/schedule/chunk-map.js';
import type { Task } from '../../../../src/chunks/schedule/tasks.js';

/** A store whose file answers when the test says so. */
class SlowStore extends Store {
  answer: () => void = () => undefined;

  override saved(): Promise<undefined> {
    return new Promise((resolve) => {
      this.answer = () => resolve(undefined);
    });
  }
}

it('misplaced units: a read that has begun before fails when its unit comes', async () => {
  const store = new SlowStore(new MemoryCache(8 * UNIT), undefined);
  const opened: Task[] = [];
  let source: SourceEvents | undefined;
  const reader = new Reader({
    map: new PointMap(4 * UNIT, [START, { in: 9, out: 2 * UNIT }]),
    store,
    source: (events) => {
      source = events;
      return {
        maxOpen: 4,
        open: (task) => void opened.push(task),
        change: () => undefined,
        close: () => undefined,
      };
    },
    mostAhead: 0,
    onLine: () => undefined,
  });
  const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const first = reader.read(0, UNIT);
  store.answer();
  await tick();
  const [task] = opened;
  const late = reader.read(3 * UNIT, UNIT);
  source?.misplaced(task, 'misplaced');
  await expect(first).rejects.toThrow('misplaced');
  store.answer();
  await tick();
  const [, other] = opened;
  for (let unit = 2; unit < 4; unit++) source?.made(other, new Uint8Array(UNIT));
  await expect(late).rejects.toThrow('misplaced');
  await expect(reader.read(2 * UNIT, 1)).rejects.toThrow('misplaced');
});
