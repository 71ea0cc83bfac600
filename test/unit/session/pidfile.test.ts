import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkPidfile, writePidfile } from '../../../src/session/pidfile.js';

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nbdfuse-test-'));
});

afterEach(() => rm(folder, { recursive: true }));

describe('pidfile', () => {
  it('has the process number and nothing else, and is removed at the end', async () => {
    const file = join(folder, 'pid');
    const pidfile = await writePidfile(file);
    expect(await readFile(file, 'utf8')).toBe(String(process.pid));
    pidfile.remove();
    await expect(stat(file)).rejects.toThrow('ENOENT');
    pidfile.remove();
  });

  it('replaces a stale one', async () => {
    const file = join(folder, 'pid');
    await writeFile(file, '4194304999');
    await writePidfile(file);
    expect(await readFile(file, 'utf8')).toBe(String(process.pid));
  });

  it('stays when another process has taken it over', async () => {
    const file = join(folder, 'pid');
    const pidfile = await writePidfile(file);
    await writeFile(file, '1');
    pidfile.remove();
    expect(await readFile(file, 'utf8')).toBe('1');
  });

  it('is checked without being written', async () => {
    await writeFile(join(folder, 'stale'), '1');
    await writeFile(join(folder, 'other'), '4194304\n');
    await symlink('elsewhere', join(folder, 'link'));
    for (const name of ['new', 'stale', 'other', 'link']) await checkPidfile(join(folder, name));
    await checkPidfile('/dev/full');
    expect((await readdir(folder)).sort()).toEqual(['link', 'other', 'stale']);
    expect(await readFile(join(folder, 'stale'), 'utf8')).toBe('1');
  });

  it.each(['my notes', '12 34\n', '1'.repeat(33)])('check: a file that has `%s` is not one', async (text) => {
    const path = join(folder, 'notes');
    await writeFile(path, text);
    await expect(checkPidfile(path)).rejects.toThrow(
      `cannot write the pidfile ${path}: the file exists and is not a pidfile; name another path`,
    );
  });

  it.each([
    ['missing/pid', 'no such file or directory'],
    ['file/pid', 'not a directory'],
    ['.', 'is a directory'],
    ['new/', 'is a directory'],
  ])('check: %s cannot be written', async (name, why) => {
    await writeFile(join(folder, 'file'), '');
    const path = `${folder}/${name}`;
    await expect(checkPidfile(path)).rejects.toThrow(`cannot write the pidfile ${path}: ${why}`);
  });

  it('that cannot be written fails in one line', async () => {
    await expect(writePidfile(join(folder, 'missing', 'pid'))).rejects.toThrow(
      /^cannot write the pidfile \S+: no such file or directory$/,
    );
    await expect(writePidfile('/dev/full')).rejects.toThrow(
      /^cannot write the pidfile \/dev\/full: no space left on device$/,
    );
    expect((await stat('/dev/full')).isCharacterDevice()).toBe(true);
  });
});
