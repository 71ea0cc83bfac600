// st_blocks is true after each change: programs use it to decide whether a file has holes, and whether it has data.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt, writeAt } from '../../support/files.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'mkfs.xfs', 'qemu-img', 'fallocate', 'tar', 'python3');

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DATA = Buffer.alloc(MIB, 'data');

const allocated = (file: string): number => statSync(file).blocks * 512;

/** An empty disk of so many bytes, behind these filters of nbdkit. */
async function mountEmpty(
  scope: Scope,
  size: number,
  filters: readonly string[] = [],
  options: readonly string[] = [],
): Promise<MountedDisk & { image: string }> {
  const image = scope.path('disk.raw');
  execFileSync('truncate', ['-s', String(size), image]);
  const names = filters.filter((word) => !word.includes('='));
  const server = ['[', 'nbdkit', ...names.map((name) => `--filter=${name}`), 'file', image];
  const disk = await mountDisk(scope, {
    server: [...server, ...filters.filter((word) => word.includes('=')), ']'],
    options,
  });
  return Object.assign(disk, { image });
}

/** The file as tar -S brings it back. */
function archiveAndExtract(scope: Scope, file: string): string {
  const folder = scope.path('extracted');
  mkdirSync(folder);
  execFileSync('tar', ['-S', '-cf', scope.path('disk.tar'), '-C', dirname(file), basename(file)]);
  execFileSync('tar', ['-xf', scope.path('disk.tar'), '-C', folder]);
  return join(folder, basename(file));
}

describe('st_blocks', () => {
  it('cp --sparse=auto copies a disk of 100 GiB right after mkfs.xfs, without reading its holes', async () => {
    const scope = createScope();
    const log = scope.path('log');
    const disk = await mountEmpty(scope, 100 * GIB, ['log', `logfile=${log}`]);
    expect(allocated(disk.file)).toBe(0);
    execFileSync('mkfs.xfs', ['-q', disk.file]);
    expect(allocated(disk.file)).toBeGreaterThan(100_000);
    expect(allocated(disk.file)).toBeLessThan(100 * MIB);
    const copy = scope.path('copy');
    execFileSync('cp', ['--sparse=auto', disk.file, copy]);
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, disk.image]);
    const reads = [...readFileSync(log, 'utf8').matchAll(/ Read id=\d+ offset=\S+ count=0x([0-9a-f]+)/g)];
    expect(reads.reduce((sum, [, count]) => sum + Number.parseInt(count, 16), 0)).toBeLessThan(200 * MIB);
  });

  it('tar -S archives the data that were just written to an empty disk', async () => {
    const scope = createScope();
    const disk = await mountEmpty(scope, 64 * MIB);
    expect(allocated(disk.file)).toBe(0);
    await writeAt(disk.file, DATA, 20 * MIB);
    expect(DATA.equals(await readAt(archiveAndExtract(scope, disk.file), 20 * MIB, MIB))).toBe(true);
  });

  it.each(['writeback', 'writethrough', 'none'])(
    'tar -S archives the data of a program that still has the disk open, with --cache=%s',
    async (cache) => {
      const scope = createScope();
      const disk = await mountEmpty(scope, 64 * MIB, [], [`--cache=${cache}`]);
      expect(allocated(disk.file)).toBe(0);
      const handle = await openFile(scope, disk.file, 'r+');
      await handle.write(DATA, 0, MIB, 20 * MIB);
      expect(DATA.equals(await readAt(archiveAndExtract(scope, disk.file), 20 * MIB, MIB))).toBe(true);
      await handle.close();
    },
  );

  it('counts the data after each fsync of a program that still has the disk open', async () => {
    const scope = createScope();
    const disk = await mountEmpty(scope, 64 * MIB);
    const handle = await openFile(scope, disk.file, 'r+');
    for (let i = 1; i <= 8; i++) {
      // The second write(2) lets the kernel cache the attributes.
      for (const half of [0, 1]) await handle.write(DATA, 0, MIB / 2, i * 4 * MIB + (half * MIB) / 2);
      await handle.sync();
      if (i % 2 === 0) expect(allocated(disk.file)).toBe(i * MIB);
    }
    await handle.close();
  });

  it('sinks after a hole is punched', async () => {
    const scope = createScope();
    const disk = await mountEmpty(scope, GIB);
    await writeAt(disk.file, DATA, 0);
    await writeAt(disk.file, DATA, 500 * MIB);
    expect(allocated(disk.file)).toBe(2 * MIB);
    execFileSync('fallocate', ['-p', '-o', '0', '-l', String(MIB / 2), disk.file]);
    expect(allocated(disk.file)).toBe(1.5 * MIB);
    execFileSync('fallocate', ['-p', '-o', '0', '-l', String(GIB), disk.file]);
    expect(allocated(disk.file)).toBe(0);
  });

  it('counts what another client has written, with --cache=none', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1G');
    const [one, other] = await Promise.all(
      ['one', 'other'].map((name) =>
        mountDisk(scope, { server: [server.uri()], options: ['--cache=none'], name }),
      ),
    );
    expect(allocated(one.file)).toBe(0);
    await writeAt(other.file, DATA, 300 * MIB);
    expect(allocated(one.file)).toBe(MIB);
    expect(DATA.equals(await readAt(one.file, 300 * MIB, MIB))).toBe(true);
  });

  it('waits a short time for a slow server, and is never 0 then', async () => {
    const scope = createScope();
    const disk = await mountEmpty(scope, GIB, ['delay', 'delay-extents=1']);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(allocated(disk.file)).toBe(0);
    await writeAt(disk.file, DATA, 0);
    execFileSync('fallocate', ['-p', '-o', '512M', '-l', '1M', disk.file]);
    const start = performance.now();
    expect(allocated(disk.file)).toBeGreaterThan(0);
    expect(performance.now() - start).toBeLessThan(900);
  });

  it('is true at the first stat(2) of an empty disk of 1 TiB, whose count takes long', async () => {
    const scope = createScope();
    const log = scope.path('log');
    const server = ['[', 'nbdkit', '--filter=log', '--filter=delay', 'memory', '1T', 'delay-extents=3ms'];
    const disk = await mountDisk(scope, { server: [...server, `logfile=${log}`, ']'] });
    const counts = (): number => readFileSync(log, 'utf8').split('...Extents id=').length - 1;
    await until('the whole count', () => counts() >= 257);
    expect(allocated(disk.file)).toBe(0);
  });

  it('counts the holes of a sparse disk of 15 TiB', async () => {
    const scope = createScope();
    const disk = await mountEmpty(scope, 15 * 1024 * GIB);
    await writeAt(disk.file, DATA, 14_000 * GIB);
    // stat(2) does not wait for all of it.
    await until('the end of the count', () => allocated(disk.file) === MIB);
  });

  it('is the whole size if the server cannot say where its holes are', async () => {
    const scope = createScope();
    const plugin = [
      ...['get_size=echo 1M', 'pread=head -c $3 /dev/zero', 'pwrite=cat >/dev/null', 'can_write=exit 0'],
      ...['can_extents=exit 0', 'extents=echo EIO broken >&2; exit 1'],
    ];
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'eval', ...plugin, ']'] });
    expect(allocated(disk.file)).toBe(MIB);
    await writeAt(disk.file, DATA, 0);
    expect(allocated(disk.file)).toBe(MIB);
  });
});
