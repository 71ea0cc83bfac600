// Other processes, as in proc_pid_stat(5).
//
// A pid is reused, and each PID namespace has its own pids. So a process is identified by pid and start time.

import { readdirSync, readFileSync, statSync } from 'node:fs';

/** Ticks in a second of user space: the same on every machine. */
const TICKS = 100;

/** A process that was running when it was inspected. */
export interface RunningProcess {
  readonly pid: number;
  /** Start time in ticks since the boot of the system. */
  readonly start: string;
  /** Age in seconds. */
  readonly age: number;
  readonly userId: number;
  /** Its command line. */
  readonly words: readonly string[];
}

/** The fields of /proc/PID/stat from `ppid` on; undefined if there is no such process or it is a zombie. */
function fieldsOf(pid: number | string): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may contain any character.
    const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : fields;
  } catch {
    return undefined;
  }
}

/** Start time of a process in ticks since the boot of the system; undefined if there is none or it is a zombie. */
function startOf(pid: number | string): string | undefined {
  return fieldsOf(pid)?.[18];
}

/** The pids that /proc shows. */
export function pids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/**
 * Whether a process of a process group is running, of any user. A group that has the number by now counts, too. Zombies
 * do not count: in a container, nobody may reap them.
 */
export function isGroupRunning(group: number): boolean {
  try {
    process.kill(-group, 0);
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
  return pids().some((pid) => fieldsOf(pid)?.[1] === String(group));
}

/** The identity of a process on this machine, besides its pid. */
export interface ProcessIdentity {
  /** Start time in ticks since the boot of the system. */
  readonly start: number;
  /** Inode number of the PID namespace, in which the pid counts. */
  readonly pidNamespace: number;
}

/** The identity of this process; undefined without /proc. */
export function ownIdentity(): ProcessIdentity | undefined {
  const start = startOf('self');
  try {
    return start === undefined
      ? undefined
      : { start: Number(start), pidNamespace: statSync('/proc/self/ns/pid').ino };
  } catch {
    return undefined;
  }
}

/**
 * The pid in /proc of the running process that has `pid` in its own PID namespace; `hidden` where /proc does not show
 * that namespace; undefined when the process has ended.
 */
export function findProcess(
  pid: number,
  { start, pidNamespace }: ProcessIdentity,
): number | 'hidden' | undefined {
  const isIt = (shown: number): boolean => startOf(shown) === String(start) && innermostPid(shown) === pid;
  const found = [pid, ...pids()].find(isIt);
  if (found !== undefined) return found;
  return ownIdentity()?.pidNamespace === pidNamespace && innermostPid(process.pid) === process.pid
    ? undefined
    : 'hidden';
}

/** The pid of a process in its own PID namespace. */
function innermostPid(pid: number): number | undefined {
  try {
    const [, numbers = ''] = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(numbers.split(/\s+/).at(-1));
  } catch {
    return undefined;
  }
}

/** The maximum number of descriptors of this process; undefined if unknown or unlimited. Node has raised the soft limit. */
export function descriptorLimit(): number | undefined {
  try {
    const [, limit] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return limit === undefined ? undefined : Number(limit);
  } catch {
    return undefined;
  }
}

/**
 * Bytes that a process and those that its first thread has started have read and written by read(2) and write(2) and
 * their kind; undefined if unknown.
 */
export function bytesMoved(pid: number | undefined): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/io`, 'utf8');
    const [, read] = /^rchar: (\d+)$/m.exec(text) ?? [];
    const [, written] = /^wchar: (\d+)$/m.exec(text) ?? [];
    const below = childrenOf(pid).map((child) => bytesMoved(child) ?? 0);
    return below.reduce((sum, bytes) => sum + bytes, Number(read) + Number(written));
  } catch {
    return undefined;
  }
}

/** The pids of a process's children; empty where the kernel does not tell. */
function childrenOf(pid: number | undefined): readonly number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return text === '' ? [] : text.split(' ').map(Number);
  } catch {
    return [];
  }
}

/** The process with a pid; undefined if there is none or it cannot be inspected. */
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

/** Whether the process is still running. */
export function isRunning({ pid, start }: RunningProcess): boolean {
  return startOf(pid) === start;
}
