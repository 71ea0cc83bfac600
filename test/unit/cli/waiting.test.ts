import { expect, it, vi } from 'vitest';
import { announceWait } from '../../../src/cli/waiting.js';

it('waiting: is announced after two seconds, and passes on how it ends', async () => {
  vi.useFakeTimers();
  try {
    const said: string[] = [];
    await announceWait(Promise.resolve(), () => said.push('short'));
    await expect(announceWait(Promise.reject(new Error('no')), () => said.push('failed'))).rejects.toThrow(
      'no',
    );
    const long = announceWait(new Promise((resolve) => setTimeout(resolve, 3000, 'done')), () =>
      said.push('long'),
    );
    await vi.advanceTimersByTimeAsync(1999);
    expect(said).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(said).toEqual(['long']);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await long).toBe('done');
    expect(said).toEqual(['long']);
  } finally {
    vi.useRealTimers();
  }
});
