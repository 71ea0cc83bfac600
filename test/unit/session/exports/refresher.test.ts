import { describe, expect, it } from 'vitest';
import { Refresher } from '../../../../src/session/exports/refresher.js';
import { FakeClock, settle } from '../fake-clock.js';

interface World {
  readonly clock: FakeClock;
  readonly refresher: Refresher;
  /** The time of each request for a list. */
  readonly listedAt: number[];
  /** Ends the list that is under way. */
  end(error?: Error): Promise<void>;
  /** Requests a list; records the end of the wait later. */
  want(): { at: number | undefined };
}

function createWorld(): World {
  const clock = new FakeClock();
  const listedAt: number[] = [];
  let finish: (error?: Error) => void = () => undefined;
  const refresher = new Refresher(clock, () => {
    listedAt.push(clock.now());
    return new Promise((resolve, reject) => {
      finish = (error) => (error === undefined ? resolve() : reject(error));
    });
  });
  return {
    clock,
    refresher,
    listedAt,
    end: async (error) => {
      finish(error);
      await settle();
    },
    want: () => {
      const outcome: { at: number | undefined } = { at: undefined };
      void refresher.want().then(() => {
        outcome.at = clock.now();
      });
      return outcome;
    },
  };
}

describe('export list refresher', () => {
  it('lets readers of the directory wait for one common list', async () => {
    const { clock, listedAt, end, want } = createWorld();
    const [first, second] = [want(), want()];
    await clock.advance(100);
    expect([first.at, second.at]).toEqual([undefined, undefined]);
    await end();
    expect([first.at, second.at]).toEqual([100, 100]);
    expect(listedAt).toEqual([0]);
  });

  it('requests a list once a second at most', async () => {
    const { clock, listedAt, end, want } = createWorld();
    want();
    await end();
    await clock.advance(999);
    const soon = want();
    await settle();
    expect(soon.at).toBe(999);
    await clock.advance(1);
    want();
    expect(listedAt).toEqual([0, 1000]);
  });

  it('requests no list right after one from elsewhere', async () => {
    const { clock, listedAt, refresher, want } = createWorld();
    refresher.fresh();
    await clock.advance(500);
    want();
    expect(listedAt).toEqual([]);
  });

  it('lets readers wait for three seconds at most, and later ones not at all', async () => {
    const { clock, listedAt, want } = createWorld();
    const first = want();
    await clock.advance(2000);
    const second = want();
    await clock.advance(5000);
    expect([first.at, second.at]).toEqual([3000, 3000]);
    const late = want();
    await settle();
    expect(late.at).toBe(7000);
    expect(listedAt).toEqual([0]);
  });

  it('requests lists less often while they come too late, and normally again after one in time', async () => {
    const { clock, listedAt, end, want } = createWorld();
    for (let second = 0; second < 100; second++) {
      want();
      await end(new Error('refused'));
      await clock.advance(1000);
    }
    expect(listedAt).toEqual([0, 2000, 6000, 14_000, 30_000, 60_000, 90_000]);
    await clock.advance(30_000);
    want();
    await end();
    await clock.advance(1000);
    want();
    expect(listedAt.slice(-2)).toEqual([130_000, 131_000]);
  });
});
