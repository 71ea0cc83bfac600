// packaging/open-image, which file managers start. scripts/package-steps uses it as a normal user.

import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'mountpoint', 'umount');

const SCRIPT = readFileSync(join(import.meta.dirname, '../../../packaging/open-image'), 'utf8');

/** A desktop, whose xdg-open is a line of shell, or missing. */
async function makeDesktop(scope: Scope, xdgOpen?: string): Promise<string> {
  const bin = scope.path('bin');
  for (const folder of [bin, scope.path('run')]) mkdirSync(folder);
  const own: Record<string, string> = { 'notify-send': `echo "$*" >"${scope.path('notified')}"` };
  if (xdgOpen !== undefined) own['xdg-open'] = xdgOpen;
  for (const name of readdirSync('/usr/bin'))
    if (name !== 'notify-send' && name !== 'xdg-open') symlinkSync(`/usr/bin/${name}`, join(bin, name));
  for (const [name, line] of Object.entries(own))
    writeFileSync(join(bin, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  writeFileSync(
    scope.path('open-image'),
    SCRIPT.replaceAll('@NODE@', process.execPath).replaceAll('@NBDFUSE@', NBDFUSE),
  );
  const image = scope.path('disk.qcow2');
  await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', image, '1M');
  return image;
}

/** Starts open-image as a file manager does. */
async function openImage(scope: Scope, ...words: readonly string[]): Promise<[number | string, string]> {
  const env = { PATH: scope.path('bin'), XDG_RUNTIME_DIR: scope.path('run') };
  const program = new Program(scope, '/bin/sh', [scope.path('open-image'), ...words], { env });
  return [await program.ended, program.stderr];
}

it('open-image: shows the folder of an image, and unmounts it', async () => {
  const scope = createScope();
  const image = await makeDesktop(scope, `ls "$1" >"$(dirname "$0")/../opened"`);
  expect(await openImage(scope, image)).toEqual([0, '']);
  expect(readFileSync(scope.path('opened'), 'utf8')).toBe('disk.raw\n');
  expect(await openImage(scope, '--unmount', image)).toEqual([0, '']);
  expect(readdirSync(scope.path('run/nbdfuse'))).toEqual([]);
  expect(existsSync(scope.path('notified'))).toBe(false);
});

it.each([
  ['is missing', undefined, 'but xdg-open is missing: apt-get install xdg-utils'],
  ['fails', 'exit 3', 'but xdg-open could not show it'],
])('open-image: names the folder of the mounted image when xdg-open %s', async (_, xdgOpen, why) => {
  const scope = createScope();
  const image = await makeDesktop(scope, xdgOpen);
  const [status, said] = await openImage(scope, image);
  const [, folder] = /^nbdfuse: \S+ is mounted at (\S+), /.exec(said) ?? [];
  expect([status, said]).toEqual([1, `nbdfuse: ${image} is mounted at ${folder}, ${why}\n`]);
  expect(readFileSync(scope.path('notified'), 'utf8')).toContain(` is mounted at ${folder}, ${why}\n`);
  expect(readdirSync(folder)).toEqual(['disk.raw']);
  expect(await openImage(scope, '--unmount', image)).toEqual([0, '']);
});
