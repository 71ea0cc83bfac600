import { open, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-img', 'qemu-nbd', 'nbdkit');

const SIZE = 32 * 1024 * 1024;

/** A raw image with scattered data. */
async function createRaw(scope: Scope): Promise<string> {
  const raw = scope.path('source');
  const handle = await open(raw, 'w');
  await handle.truncate(SIZE);
  for (const offset of [0, 5_000_000, 20_000_001, SIZE - 70_000])
    await handle.write(Buffer.alloc(70_000, `from ${offset}; `), 0, 70_000, offset);
  await handle.close();
  return raw;
}

it.each(BACKENDS)('qemu-img convert: writes into the file and reads from it, by %s', async (_, options) => {
  const scope = createScope();
  const raw = await createRaw(scope);
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '32M', ']'], options });
  await runProgram('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', raw, disk.file);
  await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', raw, disk.file);
  const copy = scope.path('copy.qcow2');
  await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', disk.file, copy);
  await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, copy);
  expect(disk.stderr).toBe('');
});

it('qemu-img convert: a mounted qcow2 can contain a qcow2', async () => {
  const scope = createScope();
  const raw = await createRaw(scope);
  const outer = createQcow2(scope.path('outer.qcow2'), '64M');
  const disk = await mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'qcow2', outer, ']'] });
  await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, scope.path('inner.qcow2'));
  const inner = await readFile(scope.path('inner.qcow2'));
  const handle = await open(disk.file, 'r+');
  await handle.write(inner);
  await handle.close();
  await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, disk.file);
});
