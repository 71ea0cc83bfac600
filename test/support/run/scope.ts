// A scope owns all resources of a test or of one measurement of a tool: a folder, processes, mounts. Its end
// removes them, the newest first.
//
// The files of this folder are for tests and tools, and free of vitest; ../cleanup.ts ties a scope to a test.
// close() waits, and fails if a mount or a process with the scope's mark in its environment is left. endNow()
// waits for nothing: a tool calls it when a signal ends it, or when a program hangs in a file system that no
// server answers.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from './command.js';
import { until } from './until.js';

/** The variable that marks the processes of a scope; its value is the scope's folder. */
const MARK = 'NBDFUSE_TEST_SCOPE';

/** Milliseconds that processes may take to end: servers of a killed nbdfuse need five seconds. */
const END_LIMIT = 8000;

/** Programs whose last words are kept: a long run of a tool starts thousands in one scope. */
const SPEAKERS = 20;

type CleanUp = () => unknown;

export interface ScopeOptions {
  /** The directory in which the scope's folder is made; the system's for temporary files by default. */
  readonly parent?: string;
  /** Milliseconds that a program may take to become ready; without limit by default, since a test has its own. */
  readonly readyLimit?: number;
}

/** See the file's head. */
export class Scope {
  /** A fresh folder, which other users may pass through. */
  readonly folder: string;
  readonly readyLimit: number | undefined;
  readonly #parent: string;
  readonly #cleanUps = new Set<CleanUp>();
  readonly #inner = new Set<Scope>();
  readonly #speakers = new Set<() => string>();
  #forget: () => void = () => undefined;

  constructor({ parent = tmpdir(), readyLimit }: ScopeOptions = {}) {
    this.#parent = parent;
    this.readyLimit = readyLimit;
    this.folder = mkdtempSync(join(parent, 'nbdfuse-test-'));
    chmodSync(this.folder, 0o755);
  }

  /** The environment for the processes of this scope. */
  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, [MARK]: this.folder };
  }

  /** A path in the scope's folder. */
  path(...names: readonly string[]): string {
    return join(this.folder, ...names);
  }

  /** Registers a clean-up; call it before the action that it undoes. @returns a function that removes it */
  add(cleanUp: CleanUp): () => void {
    const own: CleanUp = () => cleanUp();
    this.#cleanUps.add(own);
    return () => void this.#cleanUps.delete(own);
  }

  /** Registers a program's last words, for the report of a failure. */
  hear(lastWords: () => string): void {
    this.#speakers.add(lastWords);
    for (const oldest of this.#speakers) {
      if (this.#speakers.size <= SPEAKERS) break;
      this.#speakers.delete(oldest);
    }
  }

  /** The last words of the programs of this scope, without those that were silent. */
  lastWords(): readonly string[] {
    const own = [...this.#speakers].map((lastWords) => lastWords()).filter((words) => words !== '');
    return [...own, ...[...this.#inner].flatMap((inner) => inner.lastWords())];
  }

  /**
   * A scope with a separate folder beside this one's. It ends with this scope, or before.
   * @param readyLimit milliseconds, instead of this scope's
   */
  inner(readyLimit = this.readyLimit): Scope {
    const scope = new Scope({ parent: this.#parent, readyLimit });
    const remove = this.add(() => scope.close());
    this.#inner.add(scope);
    scope.#forget = () => {
      remove();
      this.#inner.delete(scope);
    };
    return scope;
  }

  /** Ends everything, also after failures. @throws AggregateError of all failures and remains */
  async close(): Promise<void> {
    this.#forget();
    const failures: unknown[] = [];
    const attempt = async (cleanUp: CleanUp): Promise<void> => {
      try {
        await cleanUp();
      } catch (error) {
        failures.push(error);
      }
    };
    for (let cleanUp = this.#takeLast(); cleanUp !== undefined; cleanUp = this.#takeLast())
      await attempt(cleanUp);
    await attempt(() => this.#detachMounts());
    await attempt(() => this.#endProcesses());
    await attempt(() => rm(this.folder, { recursive: true, force: true }));
    if (failures.length > 0) throw new AggregateError(failures, `clean-up: ${failures.join('; ')}`);
  }

  /** Ends everything without waiting, and writes immediate failures to standard error. */
  endNow(): void {
    this.#forget();
    for (const inner of [...this.#inner].reverse()) inner.endNow();
    for (let cleanUp = this.#takeLast(); cleanUp !== undefined; cleanUp = this.#takeLast())
      attemptNow(cleanUp);
    attemptNow(() => {
      for (const path of mountpointsIn(readFileSync('/proc/self/mounts', 'utf8'), this.folder))
        spawnSync('umount', ['-l', path], { stdio: 'ignore' });
    });
    attemptNow(() => rmSync(this.folder, { recursive: true, force: true }));
  }

  #takeLast(): CleanUp | undefined {
    const last = [...this.#cleanUps].pop();
    if (last !== undefined) this.#cleanUps.delete(last);
    return last;
  }

  async #detachMounts(): Promise<void> {
    const left = await mountsBelow(this.folder);
    for (const path of left) await runProgram('umount', '-l', path);
    if (left.length > 0) throw new Error(`left mounted: ${left.join(', ')}`);
  }

  async #endProcesses(): Promise<void> {
    try {
      await until(
        'the end of all processes',
        async () => (await processesOf(this.folder)).length === 0,
        END_LIMIT,
      );
    } catch (cause) {
      const left = await processesOf(this.folder);
      for (const { pid } of left) process.kill(pid, 'SIGKILL');
      const names = left.map(({ pid, command }) => `${pid} ${command}`);
      throw new Error(`left running: ${names.join(', ')}`, { cause });
    }
  }
}

/**
 * Begins a clean-up. Ignores a later failure: the clean-up waits for something that the scope ends right
 * after it.
 */
function attemptNow(cleanUp: CleanUp): void {
  try {
    Promise.resolve(cleanUp()).catch(() => undefined);
  } catch (error) {
    console.error(`clean-up: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The mountpoints below a folder, the innermost first, of a text like /proc/self/mounts. */
function mountpointsIn(table: string, folder: string): string[] {
  const paths = table.split('\n').map((line) => line.split(' ')[1] ?? '');
  return paths.filter((path) => path.startsWith(`${folder}/`)).reverse();
}

/** The mountpoints below a folder, the innermost first. */
export async function mountsBelow(folder: string): Promise<string[]> {
  return mountpointsIn(await readFile('/proc/self/mounts', 'utf8'), folder);
}

/** The living processes that carry the mark of a folder. */
export async function processesOf(folder: string): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // The environment of a zombie is empty, that of another user's process unreadable.
    const environment = await readFile(`/proc/${name}/environ`, 'utf8').catch(() => '');
    if (!environment.split('\0').includes(`${MARK}=${folder}`)) continue;
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    found.push({ pid: Number(name), command: command.replaceAll('\0', ' ').trim() });
  }
  return found;
}
