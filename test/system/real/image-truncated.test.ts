// Images that are cut short: QEMU reads their missing bytes as zeros, or refuses them with its tree of nodes.

import { mkdirSync, truncateSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'qemu-io');

async function createImage(
  scope: Scope,
  format: string,
  name: string,
  ...options: string[]
): Promise<string> {
  const path = scope.path(name);
  await runProgram(
    'qemu-img',
    'convert',
    ...options,
    '-f',
    'raw',
    '-O',
    format,
    await createRaw(scope, 3),
    path,
  );
  return path;
}

/** The lines of a mount after the first, which introduces the image. */
async function warningsOf(scope: Scope, image: string): Promise<string> {
  const disk = await mountDisk(scope, { server: [image] });
  expect(await disk.stop()).toBe(0);
  return disk.stderr.split('\n').slice(1).join('\n');
}

it.each([
  ['qcow2', 'disk.qcow2', []],
  ['qcow2', 'old.qcow2', ['-o', 'compat=0.10']],
  ['qcow2', 'small.qcow2', ['-o', 'cluster_size=512,refcount_bits=1']],
  ['qcow2', 'packed.qcow2', ['-c']],
  ['vdi', 'disk.vdi', []],
])('truncated image: %s is served with a warning (%s)', async (format, name, options) => {
  const scope = createScope();
  const image = await createImage(scope, format, name, ...options);
  expect(await warningsOf(scope, image)).toBe('');
  truncateSync(image, 1_100_000);
  // A packed one has only the clusters of its tables and of the few bytes that do not repeat.
  if (name === 'packed.qcow2') truncateSync(image, 200_000);
  expect(await warningsOf(scope, image)).toMatch(
    /^nbdfuse: \S+ seems to be cut short: it has \d+ bytes, and uses /,
  );
});

it.each([['preallocation=metadata'], ['lazy_refcounts=on']])(
  'truncated image: a new qcow2 is none (%s)',
  async (option) => {
    const scope = createScope();
    const image = scope.path('disk.qcow2');
    await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', option, image, '64M');
    await runProgram('qemu-io', '-c', 'write 0 1M', '-c', 'write 63M 512', image);
    expect(await warningsOf(scope, image)).toBe('');
  },
);

it('truncated image: QEMU reports the others, in one line', async () => {
  const scope = createScope();
  const image = await createImage(scope, 'vpc', 'disk.vhd', '-o', 'force_size=on');
  truncateSync(image, 1_048_576);
  mkdirSync(scope.path('mnt'));
  const program = startNbdfuse(scope, [scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  expect(program.stderr.split('\n')[1]).toMatch(
    /^nbdfuse: qemu-nbd cannot open \S+disk\.vhd: [^{]*truncated; check it with qemu-img check$/,
  );
});
