import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'setpriv');

const MEMORY = ['nbdkit', 'memory', '1M'];

const WAYS: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['a server that is read-only', [], ['nbdkit', '-r', 'memory', '1M']],
  ['-r', ['-r'], MEMORY],
  ['--readonly', ['--readonly'], MEMORY],
  ['-o ro', ['-o', 'ro'], MEMORY],
];

it.each(
  withBackends(WAYS).map(([way, words, command, name, backend]) => {
    return [way, name, [...words, ...backend], command] as const;
  }),
)(
  'read-only: writers get EROFS, and access(2) agrees, with %s, by %s',
  async (_, _name, options, command) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', ...command, ']'], options });
    await expect(openFile(scope, disk.file, 'r+')).rejects.toThrow('EROFS');
    await expect(openFile(scope, disk.file, 'a')).rejects.toThrow('EROFS');
    await expect(access(disk.file, constants.W_OK)).rejects.toThrow('EROFS');
    await access(disk.file, constants.R_OK);
    expect((await stat(disk.file)).mode & 0o777).toBe(0o444);
    expect((await tryProgram('fallocate', '-p', '-l', '4096', disk.file)).status).toBe(1);
    expect((await readAt(disk.file, 0, 100)).equals(Buffer.alloc(100))).toBe(true);
    expect(await disk.stop()).toBe(0);
  },
);

it.each(BACKENDS)(
  'read-only: access(2) reports a writable disk as writable, but not executable, by %s',
  async (_, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', ...MEMORY, ']'], options });
    await access(disk.file, constants.R_OK | constants.W_OK);
    await expect(access(disk.file, constants.X_OK)).rejects.toThrow('EACCES');
    expect((await stat(disk.file)).mode & 0o777).toBe(0o644);
    expect((await stat(disk.mountpoint)).mode & 0o777).toBe(0o755);
    expect(await runProgram('stat', '-f', '-c', '%T', disk.file)).toMatch(/fuse/);
  },
);
