// The charts, as SVG: the ratios, one bar per case on a logarithmic scale, and the throughput by jobs.

import { type Measured, median, type Outcome, ratio } from './measure.js';

const ROW = 24;
const LEFT = 420;
const WIDTH = 900;
/** Pixels for a factor of ten, at most. */
const DECADE = 120;
/** Pixels for the figure beside a bar. */
const FIGURE = 70;
/** Ratios below a tenth are drawn as a tenth. */
const LEAST = 0.1;

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const frame = (height: number, content: readonly string[]): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="white"/>',
    ...content,
    '</svg>\n',
  ].join('\n');

/** Makes the function from a ratio to its place, so that the largest one leaves room for its figure. */
function scale(most: number): (value: number) => number {
  const decade = Math.min(DECADE, (WIDTH - LEFT - FIGURE) / Math.log10(Math.max(most, 1) / LEAST));
  return (value) => Math.round(LEFT + decade * Math.log10(Math.max(value, LEAST) / LEAST));
}

/** How much faster than the peer each case was; a dark line marks its bar. */
export function ratioChart(all: readonly Measured[]): string {
  const height = all.length * ROW + 40;
  const values = all.map(({ outcomes }) => ratio(outcomes[0], outcomes[1]));
  const place = scale(Math.max(...values, ...all.map(({ one: { bar = 1 } }) => bar)));
  const one = place(1);
  const bars = all.map(({ one: { text, bar } }, i) => {
    const value = values[i];
    const end = place(value);
    const y = i * ROW + 28;
    const fill = value >= (bar ?? 1) ? '#2a7' : '#c55';
    return [
      `<text x="${LEFT - 10}" y="${y + 12}" text-anchor="end">${escaped(text)}</text>`,
      `<rect x="${Math.min(one, end)}" y="${y}" width="${Math.abs(end - one)}" height="16" fill="${fill}"/>`,
      `<text x="${Math.max(one, end) + 6}" y="${y + 12}">${value.toFixed(value < 100 ? 2 : 0)}</text>`,
      bar === undefined ? '' : `<rect x="${place(bar) - 1}" y="${y - 2}" width="3" height="20" fill="#222"/>`,
    ].join('');
  });
  return frame(height, [
    `<text x="${LEFT}" y="16">throughput, C nbdfuse = 1, logarithmic; black: the bar</text>`,
    ...bars,
    `<line x1="${one}" y1="22" x2="${one}" y2="${height - 12}" stroke="#333" stroke-dasharray="3"/>`,
  ]);
}

const COLOURS = ['#2a7', '#c55', '#58c', '#999', '#b83'];
const CURVE_HEIGHT = 380;

/** Throughput over jobs, with a line for each side that has all of them. */
export function curveChart(points: readonly Measured[]): string {
  const names = points[0].outcomes.map(({ name }) => name);
  const of = (name: string, { outcomes }: Measured): number => {
    const found: Outcome | undefined = outcomes.find((outcome) => outcome.name === name);
    return found === undefined ? 0 : median(found.bandwidths) / 2 ** 20;
  };
  const most = Math.max(...points.flatMap((point) => names.map((name) => of(name, point))));
  const x = (i: number): number => Math.round(80 + (i * 600) / Math.max(1, points.length - 1));
  const y = (value: number): number => Math.round(CURVE_HEIGHT - 50 - (value / most) * (CURVE_HEIGHT - 90));
  const lines = names.map((name, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const way = points.map((point, j) => `${x(j)},${y(of(name, point))}`).join(' ');
    return [
      `<polyline points="${way}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      `<text x="${x(points.length - 1) + 20}" y="${60 + i * 20}" fill="${colour}">${escaped(name)}</text>`,
    ].join('');
  });
  const ticks = points.map(
    ({ one: { curve } }, i) =>
      `<text x="${x(i)}" y="${CURVE_HEIGHT - 28}" text-anchor="middle">${curve}</text>`,
  );
  const heights = [0, 0.5, 1].map(
    (part) => `<text x="70" y="${y(most * part) + 4}" text-anchor="end">${(most * part).toFixed(0)}</text>`,
  );
  return frame(CURVE_HEIGHT, [
    '<text x="80" y="18">4k random read, direct: MiB/s by jobs</text>',
    ...heights,
    ...ticks,
    ...lines,
    `<text x="380" y="${CURVE_HEIGHT - 8}" text-anchor="middle">jobs</text>`,
  ]);
}
