// Simulators of copies of the source to which defects are put back.

import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '../..');
/** The sources of a simulator. */
const PARTS = ['src', 'tools/simulate', 'test/support'];

/** A file that begins with the defect, the rules that it may break, and the first seed that shows it; then the patch. */
export interface Defect {
  readonly name: string;
  readonly text: string;
  readonly rules: readonly string[];
  readonly seed: number;
}

/** The first violation that a search has found. */
export interface Found {
  readonly seed: number;
  readonly rule: string;
}

/** The defects of a directory. */
export function defectsIn(folder: string): Defect[] {
  return readdirSync(folder).map((file) => {
    const text = readFileSync(join(folder, file), 'utf8');
    const rules = /^Rules: (.+)$/m.exec(text)?.[1].split(', ') ?? [];
    return { name: basename(file, '.patch'), text, rules, seed: Number(/^Seed: (\d+)$/m.exec(text)?.[1]) };
  });
}

/** Builds simulators, and removes them. */
export class PatchedSimulators {
  readonly #folders: string[] = [];
  readonly #entry: string;

  /** @param entry the program, from the root */
  constructor(entry: string) {
    this.#entry = entry;
  }

  /** Builds the simulator with a patched copy of the source; returns the program's path. */
  async build(name: string, patch: string): Promise<string> {
    const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-test-'));
    this.#folders.push(folder);
    const filter = (path: string): boolean => !path.endsWith('/build');
    for (const part of PARTS) cpSync(join(ROOT, part), join(folder, part), { recursive: true, filter });
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    if (patch !== '') {
      writeFileSync(join(folder, 'defect.patch'), patch);
      try {
        execFileSync('git', ['apply', 'defect.patch'], { cwd: folder, stdio: 'pipe', encoding: 'utf8' });
      } catch (error) {
        throw new Error(`${name}.patch does not apply to the source any more: make it again`, {
          cause: error,
        });
      }
    }
    const program = join(folder, 'run.mjs');
    await build({
      entryPoints: [join(folder, this.#entry)],
      bundle: true,
      packages: 'external',
      format: 'esm',
      platform: 'node',
      target: 'node20',
      outfile: program,
      logLevel: 'error',
    });
    return program;
  }

  remove(): void {
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }
}

/** The first of so many seeds that breaks a rule. @param options of the simulator */
export async function search(
  program: string,
  from: number,
  seeds: number,
  options: readonly string[] = [],
): Promise<Found | undefined> {
  const words = [...options, '--from', `${from}`, '--seeds', `${seeds}`];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [program, ...words], { maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      if (error === null || error.code === 1) resolve(stdout);
      else reject(new Error(`the simulator failed: ${stderr}`, { cause: error }));
    });
  });
  if (!/^\d+ seeds, /m.test(output)) throw new Error(`the simulator did not come to its end: ${output}`);
  const found = /^seed (\d+): ([^:]+): /m.exec(output);
  return found === null ? undefined : { seed: Number(found[1]), rule: found[2] };
}
