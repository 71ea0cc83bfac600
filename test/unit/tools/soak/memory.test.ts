import { expect, it } from 'vitest';
import { Memory } from '../../../../tools/soak/memory.js';

const MINUTE = 60_000;

/** Samples of MiB at minutes since the start. */
function memoryOf(...samples: readonly (readonly [minutes: number, mebibytes: number])[]): Memory {
  const memory = new Memory();
  for (const [minutes, mebibytes] of samples) memory.sample(mebibytes, minutes * MINUTE);
  return memory;
}

it.each([
  [
    'a run that ends before anything can have grown',
    [
      [1, 80],
      [2, 250],
    ],
    'within its limit',
    true,
  ],
  [
    'more than there may ever be, in a short run too',
    [
      [1, 80],
      [2, 600],
    ],
    'too much',
    false,
  ],
  [
    '20 % more after five minutes',
    [
      [1, 80],
      [4, 200],
      [6, 240],
      [50, 239],
    ],
    'steady',
    true,
  ],
  [
    'more than that',
    [
      [1, 80],
      [4, 200],
      [6, 200],
      [50, 241],
    ],
    'growing',
    false,
  ],
  [
    'less than before',
    [
      [4, 200],
      [6, 80],
    ],
    'steady',
    true,
  ],
] as const)('soak memory: %s', (_, samples, verdict, good) => {
  const memory = memoryOf(...samples);
  expect(memory.verdict).toBe(verdict);
  expect(memory.good).toBe(good);
});
