import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit');

/** The requests in the log of nbdkit's log filter, in the order of their arrival. */
async function mountLogged(
  scope: Scope,
  options: readonly string[],
): Promise<{ disk: MountedDisk; requests(): string[] }> {
  const log = scope.path('log');
  const server = ['[', 'nbdkit', '--filter=log', 'memory', '1M', `logfile=${log}`, ']'];
  const disk = await mountDisk(scope, { server, options });
  const requests = (): string[] =>
    [...readFileSync(log, 'utf8').matchAll(/ (Read|Write|Flush|Zero|Trim) id=/g)].map(([, name]) => name);
  return { disk, requests };
}

it.each(BACKENDS)('fsync: sends a FLUSH after the writes, by %s', async (_, options) => {
  const scope = createScope();
  const { disk, requests } = await mountLogged(scope, options);
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(4096, 'x'), 0, 4096, 0);
  expect(requests()).not.toContain('Flush');
  await handle.sync();
  expect(requests()).toEqual(['Write', 'Flush']);
  await handle.datasync();
  await handle.close();
});

it.each(BACKENDS)('close: sends dirty pages to the server, by %s', async (_, options) => {
  const scope = createScope();
  const { disk, requests } = await mountLogged(scope, options);
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(4096, 'x'), 0, 4096, 0);
  await handle.close();
  expect(requests()).toContain('Write');
});

it.each(BACKENDS)('unmount: sends a last FLUSH after the last write, by %s', async (_, options) => {
  const scope = createScope();
  const { disk, requests } = await mountLogged(scope, options);
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(4096, 'x'), 0, 4096, 0);
  await handle.close();
  expect(await disk.stop()).toBe(0);
  expect(requests().at(-1)).toBe('Flush');
});
