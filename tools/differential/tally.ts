// The results of many cases, as Markdown.

import type { FaultCounts } from './faults.js';
import { DIMENSIONS, type Plan } from './plan.js';

/** Cases and operations of one value of a dimension. */
interface Share {
  cases: number;
  operations: number;
}

/** See the file's head. */
export class Tally {
  operations = 0;
  readonly findings: string[] = [];
  readonly #faults: FaultCounts = { cut: 0, kill: 0, freeze: 0, end: 0 };
  readonly #shares = new Map<string, Share>();
  #cases = 0;
  #deaths = 0;

  played(plan: Plan, operations: number): void {
    this.operations += operations;
    for (const share of this.#sharesOf(plan)) share.operations += operations;
  }

  found(plan: Plan, what: string): void {
    this.findings.push(`seed ${plan.seed}: ${what}`);
  }

  /** @param deaths number of unexpected ends of its server */
  ended(plan: Plan, faults: FaultCounts, deaths: number): void {
    this.#cases++;
    this.#deaths += deaths;
    for (const share of this.#sharesOf(plan)) share.cases++;
    for (const kind of ['cut', 'kill', 'freeze', 'end'] as const) this.#faults[kind] += faults[kind];
  }

  summary(): string {
    const { cut, kill, freeze, end } = this.#faults;
    const rows = [...this.#shares].sort(([a], [b]) => a.localeCompare(b));
    return [
      `${this.operations} operations in ${this.#cases} cases; connections cut ${cut} times, servers killed`,
      `${kill} times and frozen ${freeze} times, chunk servers killed ${end} times; ${this.#deaths} servers ended`,
      `unexpectedly; ${this.findings.length} differences.`,
      '',
      '| | cases | operations |',
      '| --- | --: | --: |',
      ...rows.map(([name, { cases, operations }]) => `| ${name} | ${cases} | ${operations} |`),
      '',
      ...this.findings.map((finding) => `- ${finding}`),
    ].join('\n');
  }

  #sharesOf(plan: Plan): Share[] {
    return DIMENSIONS.map((name) => {
      const key = `${name} ${plan[name]}`;
      const share = this.#shares.get(key) ?? { cases: 0, operations: 0 };
      this.#shares.set(key, share);
      return share;
    });
  }
}
