import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { withinTime } from '../../../src/transport/time-limit.js';

const FAILURE = 'the server did not answer';

/** Ends only by an abort. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });
}

describe('time limit', () => {
  it('returns the result of the work', async () => {
    expect(await withinTime(60_000, FAILURE, new AbortController().signal, async () => 7)).toBe(7);
  });

  it('aborts the work when the time is over, even after garbage collections', async () => {
    setFlagsFromString('--expose-gc');
    const collectGarbage: () => void = runInNewContext('gc');
    const late = withinTime(200, FAILURE, new AbortController().signal, untilAborted);
    collectGarbage();
    await expect(late).rejects.toThrow('the server did not answer within 0.2 s');
  });

  it('lets work go on as long as it makes progress', async () => {
    const more = [1, 2];
    let now: number | undefined;
    let moves = 0;
    const progress = (): number | undefined => {
      now = more.shift() ?? now;
      moves++;
      return now;
    };
    const late = withinTime(20, FAILURE, undefined, untilAborted, progress);
    await expect(late).rejects.toThrow('the server did not answer within 0.02 s');
    expect(moves).toBe(3);
  });

  it('aborts the work with the reason of the signal', async () => {
    const stop = new AbortController();
    const work = withinTime(60_000, FAILURE, stop.signal, untilAborted);
    stop.abort(new Error('stopping'));
    await expect(work).rejects.toThrow('stopping');
  });
});
