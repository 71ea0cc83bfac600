// A file at the path of a former or covered mount is not nbdfuse's: nbdfuse must not change it.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { type MountRequest, mountDisk } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'mount', 'umount');
requireRoot();

const OWN = Buffer.alloc(1024 * 1024, 'my own file');
const SMALL = ['[', 'nbdkit', 'memory', '64K', ']'];

/** Makes the kernel assume a larger file, which nbdfuse then corrects if it can. */
async function writeBeyondEnd(file: FileHandle): Promise<void> {
  await file.write(Buffer.from('x'), 0, 1, 70_000);
  await expect(file.sync()).rejects.toThrow(/ENOSPC|EIO/);
  // Time in which a wrong repair would happen.
  await setTimeout(500);
}

const GONE: readonly (readonly [string, Pick<MountRequest, 'form' | 'options'>, string])[] = [
  ['a file', { form: 'existing file' }, ''],
  ['a directory', { form: 'directory' }, '/nbd'],
  ['--all', { options: ['--all'] }, '/nbd'],
];

/** The user's own files at the mountpoint; returns the one that will be covered. */
function putOwn(scope: Scope, form: MountRequest['form'], name: string): string {
  const path = scope.path(`mnt${name}`);
  if (form !== 'existing file') mkdirSync(scope.path('mnt'));
  writeFileSync(path, OWN);
  return path;
}

it.each(GONE)(
  'foreign files: %s: after umount -l, a write past the end does not change the file at that path',
  async (_, request, name) => {
    const scope = createScope();
    const own = putOwn(scope, request.form, name);
    const disk = await mountDisk(scope, { server: SMALL, ...request });
    const file = await open(own, 'r+');
    await runProgram('umount', '-l', disk.mountpoint);
    expect(readFileSync(own).equals(OWN)).toBe(true);
    await writeBeyondEnd(file);
    expect(readFileSync(own).equals(OWN)).toBe(true);
    await file.close();
    await disk.program.ended;
    expect(readFileSync(own).equals(OWN)).toBe(true);
  },
);

it.each(GONE.slice(1))(
  'foreign files: %s: a file system mounted over the mount keeps its files',
  async (_, request, name) => {
    const scope = createScope();
    putOwn(scope, request.form, name);
    const disk = await mountDisk(scope, { server: SMALL, ...request });
    const path = scope.path(`mnt${name}`);
    const file = await openFile(scope, path, 'r+');
    await runProgram('mount', '-t', 'tmpfs', 'tmpfs', disk.mountpoint);
    scope.add(() => runProgram('umount', disk.mountpoint).then(() => undefined));
    writeFileSync(path, OWN);
    await writeBeyondEnd(file);
    expect(readFileSync(path).equals(OWN)).toBe(true);
    await file.close();
  },
);

it('foreign files: nbdfuse restores the size of a file in a moved mount', async () => {
  const scope = createScope();
  const first = scope.path('first');
  mkdirSync(first);
  // A mount below a shared one cannot be moved.
  await runProgram('mount', '-t', 'tmpfs', 'tmpfs', first);
  scope.add(() => runProgram('umount', '-R', '-l', first).then(() => undefined));
  await runProgram('mount', '--make-private', first);
  mkdirSync(`${first}/moved`);
  const disk = await mountDisk(scope, { server: SMALL, name: 'first/mnt' });
  const file = await openFile(scope, `${first}/mnt/nbd`, 'r+');
  await runProgram('mount', '--move', `${first}/mnt`, `${first}/moved`);
  writeFileSync(`${first}/mnt/nbd`, OWN);
  await writeBeyondEnd(file);
  expect((await file.stat()).size).toBe(65_536);
  expect(readFileSync(`${first}/mnt/nbd`).equals(OWN)).toBe(true);
  await file.close();
  expect(await disk.stop()).toBe(0);
});
