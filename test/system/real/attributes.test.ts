import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit');

const SERVER = ['[', 'nbdkit', 'memory', '1M', ']'];

it.each(BACKENDS)(
  'attributes: writes change the modification time, and nothing else does, by %s',
  async (_, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: SERVER, options });
    const mounted = await stat(disk.file);
    await readAt(disk.file, 0, 65_536);
    await (await open(disk.file, 'r+')).close();
    const read = await stat(disk.file);
    expect([read.mtimeMs, read.atimeMs]).toEqual([mounted.mtimeMs, mounted.atimeMs]);
    await writeAt(disk.file, Buffer.from('later'), 0);
    expect((await stat(disk.file)).mtimeMs).toBeGreaterThan(mounted.mtimeMs);
  },
);

it.each(BACKENDS)(
  'attributes: df shows the size of the disk, and no full file system, by %s',
  async (_, options) => {
    const disk = await mountDisk(createScope(), {
      server: ['[', 'nbdkit', 'pattern', '1000001', ']'],
      options,
    });
    const text = await runProgram('df', '-B1', '--output=size,used,avail,pcent', disk.mountpoint);
    const size = String(Math.ceil(1_000_001 / 4096) * 4096);
    expect(text.split('\n')[1].trim().split(/ +/)).toEqual([size, '0', size, '0%']);
  },
);

it.each(BACKENDS)(
  'attributes: programs cannot create other files on the mount, by %s',
  async (_, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: SERVER, options });
    const other = `${disk.mountpoint}/other`;
    const refused = /EPERM|ENOSYS|EROFS|EACCES|EOPNOTSUPP/;
    await expect(writeFile(other, '')).rejects.toThrow(refused);
    await expect(mkdir(other)).rejects.toThrow(refused);
    await expect(rename(disk.file, other)).rejects.toThrow(refused);
    await expect(rm(disk.file)).rejects.toThrow(refused);
    await expect(stat(other)).rejects.toThrow('ENOENT');
    expect((await stat(disk.file)).size).toBe(1024 * 1024);
  },
);
