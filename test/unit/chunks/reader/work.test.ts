// Prefetching an image of which most units cannot be decoded: the work follows from the bytes that there are, and not
// from the size that the image claims.

import { EventEmitter, once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import { START } from '../../../../src/chunks/contract/coding.js';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { startPrefetch } from '../../../../src/chunks/reader/prefetch.js';
import { Reader } from '../../../../src/chunks/reader/reader.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { Work } from '../../../../src/chunks/reader/work.js';
import { PointMap } from '../../../../src/chunks/schedule/chunk-map.js';
import { BACKGROUND } from '../../../../src/chunks/schedule/tasks.js';
import { createScope } from '../../../support/cleanup.js';

/** Units of the image: so many questions take seconds. */
const UNITS = 2 ** 23;
/** Units with bytes. */
const SOUND = 3;

/** A memory that counts the questions for a unit. */
class CountingMemory extends MemoryCache {
  questions = 0;

  override has(unit: number): boolean {
    this.questions += 1;
    return super.has(unit);
  }
}

function createReader(): { readonly reader: Reader; readonly memory: CountingMemory } {
  const memory = new CountingMemory(64 * UNIT);
  const reader = new Reader({
    map: new PointMap(UNITS * UNIT, [START]),
    store: new Store(memory, undefined),
    source: () => ({ maxOpen: 1, open: () => undefined, change: () => undefined, close: () => undefined }),
    mostAhead: 0,
    onLine: () => undefined,
  });
  for (let unit = 0; unit < SOUND; unit++) reader.deliver(unit, new Uint8Array(UNIT).fill(1));
  return { reader, memory };
}

describe('prefetching', () => {
  it('ends at the units that cannot be decoded, and counts them as done', async () => {
    const { reader, memory } = createReader();
    reader.fail(SOUND, UNITS, 'damaged', undefined);
    reader.fail(SOUND + 1, SOUND + 3, 'damaged', undefined);
    const image = { reader, file: undefined, parallel: 1, close: () => Promise.resolve() };
    const events = new EventEmitter();
    const ended = once(events, 'end');
    const work = await Work.start({
      image,
      memory,
      prefetch: { rate: undefined },
      trace: undefined,
      onChange: () => events.emit('end'),
      onLine: () => undefined,
    });
    createScope().add(() => work.stop());
    await ended;
    const all = UNITS * UNIT;
    expect(work.status.prefetch).toEqual({ done: all, all });
    expect(memory.questions).toBeLessThan(1000);
  });

  it('passes over units that are there without keeping others waiting', async () => {
    const { reader, memory } = createReader();
    let [most, last] = [0, 0];
    const turn = (): void => {
      most = Math.max(most, memory.questions - last);
      last = memory.questions;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    function* units(): Generator<number, undefined> {
      for (let i = 0; i < 500_000; i++) yield i % SOUND;
    }
    const events = new EventEmitter();
    const ended = once(events, 'end');
    const stop = startPrefetch({
      reader,
      priority: BACKGROUND,
      units: units(),
      rate: undefined,
      parallel: 1,
      hasRoom: () => true,
      onEnd: () => events.emit('end'),
    });
    createScope().add(() => {
      stop();
      clearImmediate(next);
    });
    await ended;
    clearImmediate(next);
    turn();
    clearImmediate(next);
    expect(memory.questions).toBeGreaterThan(499_999);
    expect(most).toBeLessThan(200_000);
  });
});
