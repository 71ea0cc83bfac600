// One scope a test: what the test makes is registered here and goes with it, last made first gone.
//
// Every clean-up runs, whatever fails before it. Afterwards nothing may be left: no mount below the
// scope's folder and no process that carries its mark in the environment, child or grandchild. What is
// left is removed all the same, and fails the test.

import { chmodSync, mkdtempSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { runProgram } from './run.js';
import { until } from './until.js';

/** The variable that marks the processes of a scope; its value is the scope's folder. */
const MARK = 'NBDFUSE_TEST_SCOPE';

type CleanUp = () => unknown;

/** Everything that one test made. */
export class Scope {
  /** A fresh folder, which other users may pass through. */
  readonly folder = mkdtempSync(join(tmpdir(), 'nbdfuse-test-'));
  readonly #cleanUps: CleanUp[] = [];

  constructor() {
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

  /** Registers what is to be done at the end; call it before the act that it takes back. */
  add(cleanUp: CleanUp): void {
    this.#cleanUps.push(cleanUp);
  }

  /** Runs everything. @throws AggregateError of all that failed or was left behind */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (cleanUp: CleanUp): Promise<void> => {
      try {
        await cleanUp();
      } catch (error) {
        failures.push(error);
      }
    };
    for (let cleanUp = this.#cleanUps.pop(); cleanUp !== undefined; cleanUp = this.#cleanUps.pop())
      await attempt(cleanUp);
    await attempt(() => this.#detachMounts());
    await attempt(() => this.#endProcesses());
    await attempt(() => rm(this.folder, { recursive: true, force: true }));
    if (failures.length > 0) throw new AggregateError(failures, `clean-up: ${failures.join('; ')}`);
  }

  async #detachMounts(): Promise<void> {
    const left = await mountsBelow(this.folder);
    for (const path of left) await runProgram('umount', '-l', path);
    if (left.length > 0) throw new Error(`left mounted: ${left.join(', ')}`);
  }

  /** Processes that were told to end may take a moment: servers of a killed nbdfuse five seconds. */
  async #endProcesses(): Promise<void> {
    try {
      await until(
        'the end of all processes',
        async () => (await processesOf(this.folder)).length === 0,
        8000,
      );
    } catch (cause) {
      const left = await processesOf(this.folder);
      for (const { pid } of left) process.kill(pid, 'SIGKILL');
      const names = left.map(({ pid, command }) => `${pid} ${command}`);
      throw new Error(`left running: ${names.join(', ')}`, { cause });
    }
  }
}

/** A scope that closes when the running test does, however that ends. */
export function createScope(): Scope {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  return scope;
}

/** The mountpoints below a folder, the innermost first. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const table = await readFile('/proc/self/mounts', 'utf8');
  const paths = table.split('\n').map((line) => line.split(' ')[1] ?? '');
  return paths.filter((path) => path.startsWith(`${folder}/`)).reverse();
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
