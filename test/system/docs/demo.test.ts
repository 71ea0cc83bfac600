// A new user runs scripts/demo first: it must do all steps that it prints, and leave nothing behind.

import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { Program } from '../../support/run/program.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';

it('scripts/demo: mounts, reads, writes and unmounts an image, and cleans up', async () => {
  const scope = createScope();
  const demo = fileURLToPath(new URL('../../../scripts/demo', import.meta.url));
  const program = new Program(scope, 'bash', [demo], { env: { TMPDIR: scope.folder } });
  expect([await program.ended, program.stderr]).toEqual([0, expect.not.stringMatching(/error|failed/i)]);
  expect(program.stdout).toMatch(
    /Hello from inside the image.*Written through the mounted file\n\n== done\n$/s,
  );
  expect(readdirSync(scope.folder)).toEqual([]);
  expect(await mountsBelow(scope.folder)).toEqual([]);
  expect(await processesOf(scope.folder)).toEqual([]);
});

it('scripts: find the programs of /usr/sbin with the PATH of a normal user', async () => {
  const scripts = fileURLToPath(new URL('../../../scripts', import.meta.url));
  const script = 'set -euo pipefail; . "$0/lib.sh"; has_program sfdisk; has_program mkfs.ext4; echo found';
  const words = ['-i', 'PATH=/usr/local/bin:/usr/bin:/bin', 'bash', '-c', script, scripts];
  expect(await runProgram('env', ...words)).toBe('found\n');
});
