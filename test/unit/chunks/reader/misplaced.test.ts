// Units whose place in the image turns out to be wrong.

import { expect, it } from 'vitest';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { Reader } from '../../../../src/chunks/reader/reader.js';
import type { SourceEvents } from '../../../../src/chunks/reader/source.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { PointMap } from '../../../../src/chunks/schedule/chunk-map.js';
import { DEMAND, type Task } from '../../../../src/chunks/schedule/tasks.js';

/** A store whose file answers when the test says so. */
class SlowStore extends Store {
  answer: () => void = () => undefined;

  override saved(): Promise<undefined> {
    return new Promise((resolve) => {
      this.answer = () => resolve(undefined);
    });
  }
}

interface Opened {
  readonly store: SlowStore;
  readonly reader: Reader;
  readonly source: SourceEvents;
  /** The tasks in the order of their begin. */
  readonly tasks: readonly Task[];
}

/** Opens an image of chunks of two units. */
function openChunks(count: number): Opened {
  const store = new SlowStore(new MemoryCache(8 * UNIT), undefined);
  const tasks: Task[] = [];
  const points = Array.from({ length: count }, (_, i) => ({ in: 9 * i, out: 2 * i * UNIT }));
  let source: SourceEvents | undefined;
  const reader = new Reader({
    map: new PointMap(2 * count * UNIT, points),
    store,
    source: (events) => {
      source = events;
      return {
        maxOpen: 4,
        open: (task) => void tasks.push(task),
        change: () => undefined,
        close: () => undefined,
      };
    },
    mostAhead: 0,
    onLine: () => undefined,
  });
  return { store, reader, source: source ?? expect.unreachable(), tasks };
}

it('misplaced units: a read that has begun before fails when its unit comes', async () => {
  const { store, reader, source, tasks } = openChunks(2);
  const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const first = reader.read(0, UNIT);
  store.answer();
  await tick();
  const late = reader.read(3 * UNIT, UNIT);
  source.misplaced(tasks[0], 'misplaced');
  await expect(first).rejects.toThrow('misplaced');
  store.answer();
  await tick();
  for (let unit = 2; unit < 4; unit++) source.made(tasks[1], new Uint8Array(UNIT));
  await expect(late).rejects.toThrow('misplaced');
  await expect(reader.read(2 * UNIT, 1)).rejects.toThrow('misplaced');
});

it('misplaced units: a read that has begun before fails, also where later ones are found after them', async () => {
  const { store, reader, source, tasks } = openChunks(3);
  reader.deliver(2, new Uint8Array(UNIT));
  const read = reader.read(UNIT, 2 * UNIT);
  for (const unit of [1, 3, 5]) reader.fetch(unit, DEMAND);
  const [sound, ...wrong] = tasks;
  for (const task of wrong) source.misplaced(task, 'misplaced');
  for (let unit = 0; unit < 2; unit++) source.made(sound, new Uint8Array(UNIT));
  store.answer();
  await expect(read).rejects.toThrow('misplaced');
});
