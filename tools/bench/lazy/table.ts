// The table of lazy images, as lines of Markdown. Pure.

import { median } from '../measure.js';

/** The requirement: to be so many times as fast, or to take at most so many times as long. */
export type Bar = { readonly faster: number } | { readonly within: number };

/** One line: a figure of nbdfuse and the figure that it is compared with, of each round. */
export interface LazyRow {
  readonly text: string;
  /** Seconds, or something a second, of which more is better. */
  readonly unit: 's' | 'MiB/s';
  readonly ours: readonly number[];
  readonly other: readonly number[];
  /** Whose figure the other one is. */
  readonly otherName: string;
  /** Undefined: shown for comparison only. */
  readonly bar: Bar | undefined;
}

export const LAZY_HEAD = [
  '| case | nbdfuse | compared with | its figure | times as fast (lowest–highest) | bar |',
  '|---|---|---|---|---|---|',
].join('\n');

function figure(values: readonly number[], unit: LazyRow['unit']): string {
  const value = median(values);
  if (unit === 'MiB/s') return `${value.toFixed(value < 10 ? 2 : 0)} MiB/s`;
  return value < 1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

const times = (value: number): string => value.toFixed(value < 10 ? 2 : 0);

/** How many times as fast as the other nbdfuse was, in each round. */
const speeds = ({ unit, ours, other }: LazyRow): readonly number[] =>
  ours.map((value, i) => (unit === 's' ? other[i] / value : value / other[i]));

function verdict(bar: Bar, all: readonly number[]): string {
  const least = 'faster' in bar ? bar.faster : 1 / bar.within;
  const text = 'faster' in bar ? `≥ ${bar.faster} ×` : `at most ${bar.within} × its time`;
  const agreeing = all.filter((value) => value >= least).length;
  return `${text} ${median(all) >= least ? '✓' : '✗'} (${agreeing} of ${all.length})`;
}

/** One line of the table. */
export function lazyRow(row: LazyRow): string {
  const all = speeds(row);
  const cells = [
    row.text,
    figure(row.ours, row.unit),
    row.otherName,
    figure(row.other, row.unit),
    `**${times(median(all))}** (${times(Math.min(...all))}–${times(Math.max(...all))})`,
    row.bar === undefined ? '' : verdict(row.bar, all),
  ];
  return `| ${cells.join(' | ')} |`;
}
