// Proof that the simulator finds defects: the test puts them back into the worker, one at a time.
//
// A file in `defects` begins with the defect, the rules that it may break, and the first seed that shows it; then comes
// the patch. docs/internals/simulation.md has the table.

import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../../../..');
const DEFECTS = join(import.meta.dirname, 'defects');

/** Number of seeds before the known one that the test also runs. */
const BEFORE = 2;
/** Maximum number of seeds: a change of the worker changes the histories of the seeds. */
const MOST_SEEDS = 400;

interface Defect {
  readonly name: string;
  readonly text: string;
  readonly rules: readonly string[];
  readonly seed: number;
}

interface Found {
  readonly seed: number;
  readonly rule: string;
}

const folders: string[] = [];

function defect(file: string): Defect {
  const text = readFileSync(join(DEFECTS, file), 'utf8');
  const rules = /^Rules: (.+)$/m.exec(text)?.[1].split(', ') ?? [];
  return { name: basename(file, '.patch'), text, rules, seed: Number(/^Seed: (\d+)$/m.exec(text)?.[1]) };
}

/** Builds the simulator with a patched copy of the source; returns the program's path. */
async function simulatorWith(name: string, patch: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-test-'));
  folders.push(folder);
  cpSync(join(ROOT, 'src'), join(folder, 'src'), { recursive: true });
  cpSync(join(ROOT, 'tools/simulate'), join(folder, 'tools/simulate'), {
    recursive: true,
    filter: (path) => !path.endsWith('/build'),
  });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  if (patch !== '') {
    writeFileSync(join(folder, 'defect.patch'), patch);
    try {
      execFileSync('git', ['apply', 'defect.patch'], { cwd: folder, stdio: 'pipe', encoding: 'utf8' });
    } catch (error) {
      throw new Error(`${name}.patch does not apply to the source any more: make it again`, { cause: error });
    }
  }
  const program = join(folder, 'run.mjs');
  await build({
    entryPoints: [join(folder, 'tools/simulate/run.ts')],
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

/** The first of so many seeds that breaks a rule. */
async function search(program: string, from: number, seeds: number): Promise<Found | undefined> {
  const options = ['--no-shrink', '--from', `${from}`, '--seeds', `${seeds}`];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [program, ...options], { maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      if (error === null || error.code === 1) resolve(stdout);
      else reject(new Error(`the simulator failed: ${stderr}`, { cause: error }));
    });
  });
  if (!/^\d+ seeds, /m.test(output)) throw new Error(`the simulator did not come to its end: ${output}`);
  const found = /^seed (\d+): ([^:]+): /m.exec(output);
  return found === null ? undefined : { seed: Number(found[1]), rule: found[2] };
}

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

describe('simulator: finds a defect that is put back', () => {
  const defects = readdirSync(DEFECTS).map(defect);
  let sound = '';

  beforeAll(async () => {
    sound = await simulatorWith('none', '');
  });

  it.each(defects)('$name', async ({ name, text, rules, seed }) => {
    const program = await simulatorWith(name, text);
    const from = Math.max(1, seed - BEFORE);
    const found = await search(program, from, MOST_SEEDS);
    expect(rules, `rules of ${name}, found ${JSON.stringify(found)}`).toContain(found?.rule);
    expect(await search(sound, from, (found?.seed ?? from) - from + 1), 'found without it').toBeUndefined();
  });

  it('the error names a patch that does not apply', async () => {
    const [{ text }] = defects;
    await expect(simulatorWith('wrong', text.replace(/^-.*[a-z].*$/m, '-nothing'))).rejects.toThrow(
      /^wrong\.patch does not apply/,
    );
  });
});
