// A mount outlives the program on the disk: an upgrade or a removal of the package changes nothing for it.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { FAST_LIBLZMA, lzmaVersionOf } from '../../support/chunks/liblzma.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { createRaw, hashOf } from '../../support/images.js';
import { runShell } from '../../support/run/command.js';
import { descendant } from '../../support/run/descendants.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('xz');

const ROOT = dirname(dirname(NBDFUSE));
const KOFFI = ['node_modules/koffi', 'node_modules/@koromix'];

/** Copies the program. @returns its folder */
function copyProgram(scope: Scope): string {
  const copy = scope.path('program');
  for (const name of ['bin', 'dist/program', 'packaging', 'package.json', ...KOFFI])
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  return copy;
}

/** The versions of the files of liblzma that a process has loaded: the system's, and nbdfuse's own. */
function lzmaVersions(pid: number): readonly number[] {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8');
  const files = new Set(maps.match(/\/\S*liblzma\S*$/gm));
  return [...files].map(lzmaVersionOf);
}

it.each([
  ['is gone', (copy: string) => rmSync(copy, { recursive: true })],
  [
    'is another version',
    (copy: string) => {
      // dpkg and npm do not write into the files that are there either.
      for (const name of readdirSync(join(copy, 'dist/program'))) {
        rmSync(join(copy, 'dist/program', name));
        writeFileSync(join(copy, 'dist/program', name), 'throw new Error("another version")');
      }
    },
  ],
])('decode threads: start and decode when the program on the disk %s', async (_, change) => {
  const scope = createScope();
  const raw = await createRaw(scope, 16);
  const image = scope.path('disk.img.xz');
  await runShell('xz --keep --block-size=1MiB --stdout "$0" >"$1"', raw, image);
  const copy = copyProgram(scope);
  const command = [process.execPath, join(copy, 'bin/nbdfuse')];
  const disk = await mountDisk(scope, { server: [image], options: ['-r', '--cache=none'], command });
  const { pid } = await descendant(disk.program.pid, /nbdfuse-chunks/);
  // There is none for other processors.
  if (process.arch === 'x64') expect(Math.max(...lzmaVersions(pid))).toBeGreaterThanOrEqual(FAST_LIBLZMA);
  change(copy);
  mkdirSync(scope.path('read'));
  // Several parts at once, so that there is work for several threads.
  const parts = ['00', '02', '04', '06', '08', '10', '12', '14'];
  const line = 'dd if="$0" of="$1/$2" bs=1M skip="$2" count=2 iflag=fullblock status=none';
  await Promise.all(parts.map((mib) => runShell(line, disk.file, scope.path('read'), mib)));
  const whole = scope.path('whole.raw');
  await runShell('cat "$0"/* >"$1"', scope.path('read'), whole);
  expect(await hashOf(whole)).toBe(await hashOf(raw));
  expect(disk.stderr).not.toContain('another version');
});
