// The table and the chart.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { type Measured, median, ratio } from './measure.js';
import type { StartUp } from './start-up.js';

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

/** One Markdown line of a case: the first two outcomes are ours and the peer's. */
export function row({ text, bar, outcomes }: Measured): string {
  const [ours, peer, native] = outcomes;
  const reached = ratio(ours, peer);
  const verdict = bar === undefined ? '' : `${bar} ${reached >= bar ? '✓' : '✗'}`;
  const cells = [
    text,
    mib(median(ours.bandwidths)),
    mib(median(peer.bandwidths)),
    `**${reached.toFixed(2)}**`,
    verdict,
    native === undefined ? '' : ratio(native, peer).toFixed(2),
    `${median(ours.cpuPerGiB).toFixed(2)} / ${median(peer.cpuPerGiB).toFixed(2)}`,
    `${ours.peakMiB.toFixed(0)} / ${peer.peakMiB.toFixed(0)}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

/** The head of the table. */
export const HEAD = [
  '| case | nbdfuse MiB/s | C MiB/s | ratio | bar | fuse-native ratio | CPU s/GiB, ours / C | peak MiB, ours / C |',
  '|---|---|---|---|---|---|---|---|',
].join('\n');

function version(argv: readonly string[]): string {
  try {
    return execFileSync(argv[0], argv.slice(1), {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }).split('\n')[0];
  } catch {
    return `${argv[0]}: not there`;
  }
}

/** Machine and versions, a line each. */
export function circumstances(): string {
  return [
    `- ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), Linux ${release()}, Node ${process.version}`,
    `- ${version(['/usr/bin/nbdfuse', '--version'])}, ${version(['nbdkit', '--version'])}, ${version(['qemu-nbd', '--version'])}, ${version(['fio', '--version'])}`,
  ].join('\n');
}

/** The lines about starting. */
export function startTable(results: readonly StartUp[]): string {
  const lines = results.map(
    ({ side, ready, peakMiB }) => `| ${side} | ${ready.toFixed(0)} | ${peakMiB.toFixed(0)} |`,
  );
  return ['| side | start to ready, ms | resident at its peak, MiB |', '|---|---|---|', ...lines].join('\n');
}

/** A bar a case: the ratio to the peer, cut at 10. */
export function chart(all: readonly Measured[]): string {
  const height = 24;
  const scale = (value: number): number => Math.round(Math.min(value, 10) * 40);
  const bars = all.map((one, i) => {
    const value = ratio(one.outcomes[0], one.outcomes[1]);
    const y = i * height + 24;
    return [
      `<text x="330" y="${y + 13}" text-anchor="end">${one.text.replaceAll('&', '&amp;')}</text>`,
      `<rect x="340" y="${y}" width="${scale(value)}" height="16" fill="${value >= 1 ? '#2a7' : '#c55'}"/>`,
      `<text x="${346 + scale(value)}" y="${y + 13}">${value.toFixed(2)}</text>`,
    ].join('');
  });
  const size = all.length * height + 40;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="820" height="${size}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="white"/>',
    '<text x="340" y="14">throughput relative to C nbdfuse (1.00), cut at 10</text>',
    ...bars,
    `<line x1="380" y1="18" x2="380" y2="${size - 12}" stroke="#333" stroke-dasharray="3"/>`,
    '</svg>\n',
  ].join('\n');
}

/** Writes table and chart into docs/benchmarks. */
export function write(all: readonly Measured[], starts: readonly StartUp[], command: string): void {
  mkdirSync('docs/benchmarks', { recursive: true });
  writeFileSync('docs/benchmarks/results.svg', chart(all));
  const text = [
    '# Benchmarks',
    '',
    `${new Date().toISOString().slice(0, 10)}, on a machine that others use too: ratios of sides that took turns in one run count, absolute figures do not. Each ratio is the median of the rounds.`,
    '',
    circumstances(),
    `- repeat it: \`${command}\``,
    '',
    HEAD,
    ...all.map(row),
    '',
    startTable(starts),
    '',
    '![ratios](results.svg)',
    '',
  ];
  writeFileSync('docs/benchmarks/README.md', text.join('\n'));
}
