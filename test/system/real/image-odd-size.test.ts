// Raw images whose size is no multiple of a sector: the file has their size, and a write does not make them longer.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { writeAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { hashOf } from '../../support/images.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'gzip');

function createOdd(scope: Scope, size: number): string {
  const path = scope.path('disk.img');
  writeFileSync(path, Buffer.alloc(size, 'odd '));
  return path;
}

describe('raw image of an odd size', () => {
  it.each([1, 511, 1000, 70_001])('has its %i bytes, with and without an overlay', async (size) => {
    const scope = createScope();
    const raw = createOdd(scope, size);
    const kept = `--overlay=${scope.path('kept.qcow2')}`;
    for (const options of [[], ['--overlay'], [kept], [kept]]) {
      const disk = await mountDisk(scope, { server: [raw], options });
      const programs = options.length === 0 ? 'nbdkit' : 'qemu-nbd';
      expect(disk.stderr).toBe(`nbdfuse: ${raw} is raw; serving it with ${programs}\n`);
      expect((await stat(disk.file)).size).toBe(size);
      expect(await hashOf(disk.file)).toBe(await hashOf(raw));
      expect(await disk.stop()).toBe(0);
    }
  });

  it('keeps its size when a program writes to its end, and beyond', async () => {
    const scope = createScope();
    const raw = createOdd(scope, 1000);
    const disk = await mountDisk(scope, { server: [raw], options: ['--cache=none'] });
    await writeAt(disk.file, Buffer.from('end'), 997);
    const handle = await open(disk.file, 'r+');
    await expect(handle.write('beyond', 1000)).rejects.toThrow('ENOSPC');
    await handle.sync();
    await handle.close();
    expect((await tryProgram('fallocate', '-z', '-o', '400', '-l', '200', disk.file)).status).toBe(0);
    expect(await disk.stop()).toBe(0);
    const bytes = Buffer.alloc(1000, 'odd ');
    bytes.fill(0, 400, 600);
    bytes.write('end', 997);
    expect(readFileSync(raw).equals(bytes)).toBe(true);
  });

  it('has its size in a compressed file, on a web server and on an NBD server', async () => {
    const scope = createScope();
    const raw = createOdd(scope, 1000);
    await runProgram('gzip', '-k', raw);
    const web = await startHttpRangeServer(scope, raw, 'disk.img');
    for (const image of [`${raw}.gz`, web.url]) {
      for (const options of [[], ['--overlay']]) {
        const disk = await mountDisk(scope, { server: [image], options });
        expect(await hashOf(disk.file)).toBe(await hashOf(raw));
        expect(await disk.stop()).toBe(0);
      }
    }
  });

  it('gets its new size at the next mount', async () => {
    const scope = createScope();
    const raw = createOdd(scope, 1000);
    appendFileSync(raw, Buffer.alloc(24));
    const disk = await mountDisk(scope, { server: [raw] });
    expect(disk.stderr).toBe(`nbdfuse: ${raw} is raw; serving it with qemu-nbd\n`);
    expect((await stat(disk.file)).size).toBe(1024);
  });
});
