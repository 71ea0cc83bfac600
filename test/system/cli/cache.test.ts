// `nbdfuse cache` on real files.

import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openCacheFile } from '../../../src/chunks/cache/cache-file.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { type Outcome, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';

const SIZE = 4 * UNIT;

const nbdfuse = (...words: readonly string[]): Promise<Outcome> => tryProgram('node', NBDFUSE, ...words);

/** A cache with some units. Its identity has characters that move the cursor. */
async function make(scope: Scope, path: string, units: readonly number[]): Promise<UnitFile> {
  const file = await openCacheFile({
    path,
    identity: { source: 'https://host/\u001b[2Jdisk.xz', coding: 'xz', fileSize: 5, version: 'a\nb' },
    size: SIZE,
    limit: undefined,
    onFailure: (line) => expect(line).toBe(''),
    onLine: (line) => expect(line).toBe(''),
  });
  if (file === undefined) throw new Error('no cache');
  scope.add(() => file.close());
  for (const unit of units) file.write(unit, new Uint8Array(UNIT).fill(unit + 1));
  await file.flush();
  return file;
}

describe('nbdfuse cache', () => {
  it('list shows caches and their state, also while a process uses them', async () => {
    const scope = createScope();
    await make(scope, scope.path('open'), [0]);
    await (await make(scope, scope.path('closed'), [0, 1, 2, 3])).close();
    const { status, stdout } = await nbdfuse('cache', 'list', scope.folder);
    expect(status).toBe(0);
    expect(stdout).toContain('source: https://host/\\x1b[2Jdisk.xz (xz, version a\\nb)');
    expect(stdout).toMatch(/25 % of 1 MiB, .* on disk, in use\n/);
    expect(stdout).toMatch(/100 % of 1 MiB, .* on disk\n/);
    const json = JSON.parse((await nbdfuse('cache', 'list', '--json', scope.path('closed'))).stdout);
    expect(json).toMatchObject([
      { path: scope.path('closed'), size: SIZE, held: SIZE, complete: true, inUse: false },
    ]);
  });

  it('list shows the default directory, which need not exist', async () => {
    const scope = createScope();
    const run = (): Promise<Outcome> =>
      tryProgram('env', `XDG_CACHE_HOME=${scope.folder}`, 'node', NBDFUSE, 'cache', 'list');
    expect(await run()).toMatchObject({ status: 0, stdout: '' });
  });

  it('verify removes damaged units and fails', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const file = await make(scope, path, [0, 1]);
    const used = await nbdfuse('cache', 'verify', path);
    expect([used.status, used.stderr]).toEqual([
      1,
      `nbdfuse: a process uses the cache ${path}: unmount it first\n`,
    ]);
    await file.close();
    expect((await nbdfuse('cache', 'verify', path)).stdout).toBe(`${path}: 2 units, all right\n`);
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.from([99]), 0, 1, UNIT);
    closeSync(fd);
    const damaged = await nbdfuse('cache', 'verify', path);
    expect([damaged.status, damaged.stderr]).toEqual([
      1,
      `nbdfuse: ${path}: 1 of 2 units damaged, at offsets ${UNIT}; they were removed\n`,
    ]);
    expect((await nbdfuse('cache', 'verify', path)).stdout).toBe(`${path}: 1 unit, all right\n`);
  });

  it('prune removes caches that no process uses, down to a size', async () => {
    const scope = createScope();
    const path = scope.path('cache');
    const file = await make(scope, path, [0, 1, 2]);
    expect((await nbdfuse('cache', 'prune', scope.folder)).stdout).toBe('0 caches removed, 0 bytes\n');
    expect((await nbdfuse('cache', 'prune', path)).status).toBe(1);
    await file.close();
    expect((await nbdfuse('cache', 'prune', '--cache-size=512K', path)).status).toBe(0);
    expect(statSync(path).blocks * 512).toBeLessThanOrEqual(2 * UNIT);
    expect((await nbdfuse('cache', 'prune', '--cache-size', '1G', scope.folder)).stdout).toMatch(/^0 caches/);
    expect((await nbdfuse('cache', 'prune', scope.folder)).stdout).toMatch(/^1 cache removed/);
    expect([existsSync(path), existsSync(`${path}.index`)]).toEqual([false, false]);
  });

  it('export copies a complete image, and another one only with --partial', async () => {
    const scope = createScope();
    const [path, out] = [scope.path('cache'), scope.path('out.raw')];
    const file = await make(scope, path, [0, 2]);
    expect((await nbdfuse('cache', 'export', path, out)).stderr).toBe(
      `nbdfuse: ${path} holds 50 % of the image; copy those with --partial\n`,
    );
    expect(existsSync(out)).toBe(false);
    expect((await nbdfuse('cache', 'export', '--partial', path, out)).status).toBe(0);
    const bytes = readFileSync(out);
    expect([0, 1, 2, 3].map((unit) => bytes[unit * UNIT])).toEqual([1, 0, 3, 0]);
    expect((await nbdfuse('cache', 'export', '--partial', path, out)).stderr).toContain('exists');
    for (const unit of [1, 3]) file.write(unit, new Uint8Array(UNIT).fill(unit + 1));
    await file.flush();
    expect((await nbdfuse('cache', 'export', path, scope.path('all.raw'))).status).toBe(0);
    expect(readFileSync(scope.path('all.raw')).equals(readFileSync(path))).toBe(true);
  });

  it('refuses files that are no caches, and leaves them alone', async () => {
    const scope = createScope();
    for (const name of ['mine', 'mine.index']) writeFileSync(scope.path(name), 'mine');
    for (const action of ['list', 'verify', 'prune']) {
      const { status, stderr } = await nbdfuse('cache', action, scope.path('mine'));
      expect([status, stderr]).toEqual([
        1,
        `nbdfuse: ${scope.path('mine')} is not a cache file of nbdfuse\n`,
      ]);
    }
    expect((await nbdfuse('cache', 'prune', scope.folder)).stdout).toMatch(/^0 caches/);
    expect(readFileSync(scope.path('mine'), 'utf8')).toBe('mine');
  });

  it('names the right usage for wrong arguments', async () => {
    expect((await nbdfuse('cache', 'verify')).stderr).toContain('nbdfuse cache verify FILE');
    expect((await nbdfuse('cache', 'list', '--partial')).stderr).toContain(
      'cache list has no option --partial',
    );
  });
});
