// Other processes, as proc_pid_stat(5) shows them.
//
// A number alone names no process: it is given away again, and another PID namespace has its own. Its start goes with it.

import { readFileSync, statSync } from 'node:fs';

/** The kernel's ticks in a second, for user space: the same everywhere. */
const TICKS = 100;

/** A process that was running when it was looked at. */
export interface RunningProcess {
  readonly pid: number;
  /** Ticks from the start of the system to that of the process. */
  readonly start: string;
  /** Seconds. */
  readonly age: number;
  readonly userId: number;
  /** Its command line. */
  readonly words: readonly string[];
}

/** Since when a process runs; undefined when there is none, or it has ended and only its parent does not know. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold any character.
    const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : fields[18];
  } catch {
    return undefined;
  }
}

/** The process of a number; undefined when there is none that can be looked at. */
export function runningProcess(pid: unknown): RunningProcess | undefined {
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 2) return undefined;
  const start = startOf(pid);
  if (start === undefined) return undefined;
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const userId = statSync(`/proc/${pid}`).uid;
    const [sinceBoot] = readFileSync('/proc/uptime', 'utf8').split(' ');
    return { pid, start, age: Number(sinceBoot) - Number(start) / TICKS, userId, words };
  } catch {
    return undefined;
  }
}

/** Whether it is the same process still, and has not ended. */
export function isRunning({ pid, start }: RunningProcess): boolean {
  return startOf(pid) === start;
}
