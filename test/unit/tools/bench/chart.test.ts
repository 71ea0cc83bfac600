import { expect, it } from 'vitest';
import { ratioChart } from '../../../../tools/bench/chart.js';
import type { Measured } from '../../../../tools/bench/measure.js';

/** Pixels of a character of 12 pixels, at most. */
const CHARACTER = 8;

function measured(ratio: number, bar?: number): Measured {
  const outcome = (name: string, bandwidth: number) => ({
    name,
    bandwidths: [bandwidth],
    cpuPerGiB: undefined,
    peakMiB: undefined,
  });
  const one = { name: 'a', text: 'a < b', bar, job: {} } as Measured['one'];
  return { one, outcomes: [outcome('nbdfuse', ratio), outcome('C nbdfuse', 1)] };
}

/** The right ends of the texts and bars. */
function rightEnds(chart: string): number[] {
  const texts = [...chart.matchAll(/<text x="(\d+)" y="\d+">([\d.]+)</g)];
  const bars = [...chart.matchAll(/<rect x="(\d+)" y="\d+" width="(\d+)"/g)];
  return [
    ...texts.map(([, x, figure]) => Number(x) + CHARACTER * figure.length),
    ...bars.map(([, x, width]) => Number(x) + Number(width)),
  ];
}

it.each([0.01, 0.5, 1, 9.87, 1000, 12_345, 1_234_567])(
  'ratio chart: a ratio of %s has its figure in the picture',
  (ratio) => {
    const chart = ratioChart([measured(1), measured(ratio, 1.5)]);
    const width = Number(/width="(\d+)"/.exec(chart)?.[1]);
    expect(rightEnds(chart).length).toBe(5);
    for (const end of rightEnds(chart)) expect(end).toBeLessThanOrEqual(width);
    expect(chart).toContain('a &lt; b');
  },
);
