// The processes below another one: the servers of an image stand on top of each other.

import { runProgram } from './command.js';
import { until } from './until.js';

export interface RunningProcess {
  readonly pid: number;
  /** Its command line, as `ps` shows it. */
  readonly args: string;
}

/** The children of a process, their children, and so on. */
export async function descendants(ancestor: number | undefined): Promise<readonly RunningProcess[]> {
  const lines = (await runProgram('ps', '-eo', 'pid=,ppid=,args=')).trim().split('\n');
  const all = lines.map((line) => {
    const [, pid = '', parent = '', args = ''] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return { pid: Number(pid), parent: Number(parent), args };
  });
  const below = (parent: number): RunningProcess[] =>
    all.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return ancestor === undefined ? [] : below(ancestor);
}

/** The descendant with this in its command line, once there is one. */
export async function descendant(ancestor: number | undefined, program: RegExp): Promise<RunningProcess> {
  let found: RunningProcess | undefined;
  await until(`a process of ${program}`, async () => {
    found = (await descendants(ancestor)).find(({ args }) => program.test(args));
    return found !== undefined;
  });
  if (found === undefined) throw new Error(`there is no process of ${program}`);
  return found;
}
