import { describe, expect, it } from 'vitest';
import { Deadline } from '../../../src/session/deadline.js';
import { FakeClock, settle } from './fake-clock.js';

const NEVER = new Promise<void>(() => undefined);

describe('deadline', () => {
  it('returns the time left, never less than zero', async () => {
    const clock = new FakeClock();
    const deadline = new Deadline(1000, undefined, clock);
    expect(deadline.remaining).toBe(1000);
    await clock.advance(400);
    expect(deadline.remaining).toBe(600);
    await clock.advance(5000);
    expect(deadline.remaining).toBe(0);
  });

  it('distinguishes a result, a failure and lateness', async () => {
    const clock = new FakeClock();
    const deadline = new Deadline(1000, undefined, clock);
    const error = new Error('no');
    expect(await deadline.outcomeOf(Promise.resolve(7))).toEqual({ kind: 'done', value: 7 });
    expect(await deadline.outcomeOf(Promise.reject(error))).toEqual({ kind: 'failed', error });
    const late = deadline.outcomeOf(NEVER, 300);
    await clock.advance(700);
    expect(await late).toEqual({ kind: 'late' });
  });

  it('is over at once at the hurry signal', async () => {
    const hurry = new AbortController();
    const deadline = new Deadline(1000, hurry.signal, new FakeClock());
    const late = deadline.outcomeOf(NEVER);
    await settle();
    hurry.abort();
    expect(await late).toEqual({ kind: 'late' });
    expect(deadline.remaining).toBe(0);
  });
});
