// A source that is back: its server may end at any moment of the comparison.

import { describe, expect, it } from 'vitest';
import { comparedInput } from '../../../../src/chunks/input/compared-input.js';
import { memoryInput } from '../../../support/chunks/opened-file.js';

/** Opens an input whose server ends when the test says so. */
function startSource() {
  const calls: string[] = [];
  let end: (how: string) => Promise<void> = () => Promise.resolve();
  const input = { ...memoryInput(Buffer.alloc(1)), close: async () => void calls.push('closed') };
  return {
    calls,
    input,
    end: (how: string) => end(how),
    open: async (onEnd: (how: string) => Promise<void>) => {
      end = onEnd;
      return input;
    },
    onEnd: async (how: string) => void calls.push(how),
  };
}

describe('source that is back', () => {
  it('is used if it has the image, and reports the end of its server from then on', async () => {
    const { open, onEnd, input, calls, end } = startSource();
    expect(await comparedInput({ open, isSame: async () => true, onEnd })).toBe(input);
    await end('nbdkit has ended');
    expect(calls).toEqual(['nbdkit has ended']);
  });

  it('is closed if it has another image', async () => {
    const { open, onEnd, calls } = startSource();
    expect(await comparedInput({ open, isSame: async () => false, onEnd })).toBe('other');
    expect(calls).toEqual(['closed']);
  });

  it.each([true, false])(
    'is away again if its server ends after the last compared read (%s)',
    async (isSame) => {
      const { open, onEnd, calls, end } = startSource();
      const compare = async (): Promise<boolean> => {
        await end('nbdkit has ended');
        return isSame;
      };
      await expect(comparedInput({ open, isSame: compare, onEnd })).rejects.toThrow('nbdkit has ended');
      expect(calls).toEqual(['closed']);
    },
  );
});
