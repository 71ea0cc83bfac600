// `npm run fuzz -- [--seconds N] [--target NAME]…`: fuzzes every target, or those that are named.
//
// The targets share the time, one after the other. Test cases that a run has found interesting stay in
// tools/fuzz/build/corpus for the next one; the seeds are in tools/fuzz/corpus. A test case that breaks a promise is
// saved in tools/fuzz/build/findings, and the exit status is 1. `--replay FILE` runs one test case again.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { type Coverage, coverageOf } from './coverage.js';

const TARGETS = ['handshake', 'replies', 'worker', 'tls', 'uri'];
const BUILD = 'tools/fuzz/build';
const FINDINGS = `${BUILD}/findings`;
const JAZZER = 'tools/fuzz/node_modules/@jazzer.js/core/dist/cli.js';
/** Bytes of a test case. */
const MAX_LENGTH = 4096;
/** Seconds that one test case may take, and MiB that all of them together may. */
const [PATIENCE, MEMORY] = [30, 1500];

interface Outcome {
  readonly target: string;
  readonly status: number;
  readonly executions: number;
  readonly seconds: number;
  /** Test cases kept, and counters of branches reached, as libFuzzer counts them. */
  readonly corpus: number;
  readonly edges: number;
  readonly lastLines: readonly string[];
}

function optionsOf(target: string, seconds: number): string[] {
  const dictionary = `tools/fuzz/dictionaries/${target}.dict`;
  return [
    `-max_total_time=${seconds}`,
    `-max_len=${MAX_LENGTH}`,
    `-timeout=${PATIENCE}`,
    `-rss_limit_mb=${MEMORY}`,
    `-artifact_prefix=${FINDINGS}/${target}-`,
    '-use_value_profile=1',
    '-print_final_stats=1',
    ...(existsSync(dictionary) ? [`-dict=${dictionary}`] : []),
  ];
}

/** Runs one target for so many seconds. */
async function fuzz(target: string, seconds: number): Promise<Outcome> {
  const found = `${BUILD}/corpus/${target}`;
  const seeds = `tools/fuzz/corpus/${target}`;
  for (const folder of [found, FINDINGS]) mkdirSync(folder, { recursive: true });
  const words = [`${BUILD}/tools/fuzz/targets/${target}.js`, found, ...(existsSync(seeds) ? [seeds] : [])];
  const flags = [
    '--sync',
    '-i',
    `${BUILD}/src/`,
    '--disableBugDetectors',
    '.*',
    '--timeout',
    `${1000 * PATIENCE}`,
  ];
  const argv = [JAZZER, ...words, ...flags, '--', ...optionsOf(target, seconds)];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise<number>((resolve, reject) => {
    child.once('error', reject).once('exit', (code) => resolve(code ?? 1));
  });
  let [executions, corpus, edges] = [0, 0, 0];
  const lastLines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    const progress = /^#(\d+)\s.*\bcov: (\d+) .*\bcorp: (\d+)/.exec(line);
    if (progress !== null) [executions, edges, corpus] = progress.slice(1).map(Number);
    const done = /^stat::number_of_executed_units:\s*(\d+)|^Done (\d+) runs/.exec(line);
    if (done !== null) executions = Number(done[1] ?? done[2]);
    if (progress === null && done === null) lastLines.push(line);
    if (lastLines.length > 25) lastLines.shift();
  }
  return { target, status: await exited, executions, seconds, corpus, edges, lastLines };
}

function row({ target, executions, seconds, corpus, edges }: Outcome, { reached, lines }: Coverage): string {
  const rate = Math.round(executions / seconds);
  const share = ((100 * reached) / Math.max(lines, 1)).toFixed(1);
  return `| ${target} | ${executions} | ${rate} | ${corpus} | ${edges} | ${reached} of ${lines} (${share} %) |`;
}

async function run(targets: readonly string[], seconds: number): Promise<number> {
  const share = Math.max(Math.floor(seconds / targets.length), 1);
  const rows: string[] = [];
  let findings = 0;
  for (const target of targets) {
    console.log(`fuzzing ${target} for ${share} s`);
    const outcome = await fuzz(target, share);
    if (outcome.status !== 0) {
      findings++;
      console.log(outcome.lastLines.join('\n'));
      console.log(`a finding in ${target}: the test case is in ${FINDINGS}`);
    }
    rows.push(row(outcome, coverageOf(target)));
    console.log(rows.at(-1));
  }
  console.log('\n| target | executions | a second | test cases kept | branches | lines reached |');
  console.log(`|---|---|---|---|---|---|\n${rows.join('\n')}`);
  console.log(findings === 0 ? 'no findings' : `${findings} findings`);
  return findings === 0 ? 0 : 1;
}

async function replay(target: string, path: string): Promise<void> {
  const module: { fuzz(data: Buffer): void } = await import(
    join(process.cwd(), `${BUILD}/tools/fuzz/targets/${target}.js`)
  );
  module.fuzz(readFileSync(path));
  console.log('no finding');
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      target: { type: 'string', multiple: true, default: TARGETS },
      replay: { type: 'string' },
    },
  });
  const seconds = Number(values.seconds);
  const unknown = values.target.find((target) => !TARGETS.includes(target));
  if (unknown !== undefined)
    throw new Error(`there is no target ${unknown}; there are ${TARGETS.join(', ')}`);
  if (!(seconds > 0)) throw new Error('--seconds wants a number');
  if (values.replay === undefined) return run(values.target, seconds);
  await replay(values.target[0], values.replay);
  return 0;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  },
);
