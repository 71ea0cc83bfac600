// The file of --trace: no file of the user is lost, and the next mount reads it.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'nbdkit', 'xz');

/** Starts nbdfuse, which must refuse; returns its last line. */
async function refusal(scope: Scope, ...words: readonly string[]): Promise<string> {
  const program = startNbdfuse(scope, [...words.slice(0, -1), scope.path('mnt'), ...words.slice(-1)]);
  expect(await program.ended, program.stderr).toBe(1);
  return program.stderr.trimEnd().split('\n').at(-1) ?? '';
}

describe('--trace', () => {
  it('refuses a file with other bytes before anything is mounted, and leaves it as it is', async () => {
    const scope = createScope();
    const notes = scope.path('notes');
    writeFileSync(notes, 'my notes\n'.repeat(1000));
    const before = readFileSync(notes);
    const why =
      `nbdfuse: cannot use ${notes} as a trace: it has other bytes, which nbdfuse does not overwrite; ` +
      'name a new file';
    const raw = await createRaw(scope, 4);
    await runProgram('xz', '-k', '-0', raw);
    for (const image of [`${raw}.xz`, raw, 'nbd://127.0.0.1:1'])
      expect(await refusal(scope, '--trace', notes, image)).toBe(why);
    expect(readFileSync(notes).equals(before)).toBe(true);
  });

  it('is written at the end, also from within the sandbox, and read at the next start', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 4);
    await runProgram('xz', '-k', '-0', '--block-size=1MiB', raw);
    const trace = scope.path('trace');
    for (let round = 0; round < 2; round++) {
      const disk = await mountDisk(scope, { server: [`${raw}.xz`], options: ['--trace', trace] });
      expect((await readFile(disk.file)).equals(await readFile(raw))).toBe(true);
      expect(await disk.stop()).toBe(0);
      expect(disk.stderr).not.toContain('trace');
      expect(readFileSync(trace, 'latin1').startsWith('nbdfuse trace 1\n')).toBe(true);
      expect(statSync(trace).size).toBe(16 + 4 * 16);
    }
  });
});
