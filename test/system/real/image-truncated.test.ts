// Images that are cut short: QEMU reads their missing bytes as zeros, or refuses them with its tree of nodes.

import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { createRaw } from '../../support/images.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'qemu-io', 'nbdkit', 'zip', 'tar', 'gzip');

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
  ['qcow', 'disk.qcow', []],
  ['vmdk', 'disk.vmdk', []],
  ['parallels', 'disk.hdd', []],
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

it.each([
  ['qcow', 'disk.qcow', []],
  ['vmdk', 'disk.vmdk', []],
  ['vmdk', 'split.vmdk', ['-o', 'subformat=twoGbMaxExtentSparse']],
  ['parallels', 'disk.hdd', []],
  ['qcow2', 'data.qcow2', ['-o', 'data_file=data.raw']],
  ['qcow2', 'wide.qcow2', ['-o', 'data_file=wide.raw,data_file_raw=on']],
])('truncated image: a new %s with some data is none (%s)', async (format, name, options) => {
  const scope = createScope();
  const image = scope.path(name);
  const here = options.map((option) =>
    option
      .replace('=data.raw', `=${scope.path('data.raw')}`)
      .replace('=wide.raw', `=${scope.path('wide.raw')}`),
  );
  await runProgram('qemu-img', 'create', '-q', '-f', format, ...here, image, '65537K');
  await runProgram(
    'qemu-io',
    '-f',
    format,
    '-c',
    'write 0 512',
    '-c',
    'write 30M 512',
    '-c',
    'write 65536K 1K',
    image,
  );
  expect(await warningsOf(scope, image)).not.toContain('cut short');
});

const RAW_PARTS: readonly (readonly [string, string, string, string])[] = [
  ['a part of a sparse VMDK', '-O vmdk -o subformat=twoGbMaxExtentSparse', 'disk.vmdk', 'disk-s001.vmdk'],
  ['the data file of a qcow2', '-O qcow2 -o data_file=data.raw', 'disk.qcow2', 'data.raw'],
  [
    'the raw data file of a qcow2',
    '-O qcow2 -o data_file=data.raw,data_file_raw=on',
    'disk.qcow2',
    'data.raw',
  ],
];

it.each(RAW_PARTS)('truncated image: %s is named', async (_, options, name, part) => {
  const scope = createScope();
  const raw = await createRaw(scope, 3);
  await runShell(`cd "$0" && qemu-img convert -f raw ${options} "$1" ${name}`, scope.folder, raw);
  expect(await warningsOf(scope, scope.path(name))).not.toContain('cut short');
  truncateSync(scope.path(part), 1_100_000);
  expect(await warningsOf(scope, scope.path(name))).toContain(
    `${part} seems to be cut short: it has 1100000 bytes`,
  );
});

it('truncated image: a backing file is named, and so is an image in an archive or a compressed file', async () => {
  const scope = createScope();
  const image = await createImage(scope, 'qcow2', 'base.qcow2');
  await runProgram(
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-F',
    'qcow2',
    '-b',
    image,
    scope.path('top.qcow2'),
  );
  truncateSync(image, 1_100_000);
  await runShell(
    'cd "$0" && zip -q0 a.zip base.qcow2 && gzip -k base.qcow2 && tar -czf a.tgz base.qcow2',
    scope.folder,
  );
  for (const [name, shown] of [
    ['top.qcow2', 'base.qcow2'],
    ['a.zip', 'base.qcow2'],
    ['base.qcow2.gz', 'base.qcow2.gz'],
    ['a.tgz', 'base.qcow2'],
  ] as const)
    expect(await warningsOf(scope, scope.path(name))).toContain(
      `${shown} seems to be cut short: it has 1100000 bytes`,
    );
});

it('truncated image: one on a web server is, too', async () => {
  const scope = createScope();
  const image = await createImage(scope, 'qcow2', 'disk.qcow2');
  truncateSync(image, 1_100_000);
  const { url } = await startHttpRangeServer(scope, image, 'disk.qcow2');
  expect(await warningsOf(scope, url)).toMatch(/disk\.qcow2 seems to be cut short: it has 1100000 bytes/);
});

it.each(['monolithicFlat', 'twoGbMaxExtentFlat'])(
  'truncated image: a part of a VMDK is refused (%s)',
  async (kind) => {
    const scope = createScope();
    const image = await createImage(scope, 'vmdk', 'disk.vmdk', '-o', `subformat=${kind}`);
    const part = scope.path(kind === 'monolithicFlat' ? 'disk-flat.vmdk' : 'disk-f001.vmdk');
    truncateSync(part, 1_100_000);
    mkdirSync(scope.path('mnt'));
    const program = startNbdfuse(scope, [scope.path('mnt'), image]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe(
      `nbdfuse: ${part} is cut short: the descriptor of the disk uses its first 3145728 bytes: get it again\n`,
    );
  },
);

it('truncated image: a map beyond the end is one, too', async () => {
  const scope = createScope();
  const image = await createImage(scope, 'qcow2', 'disk.qcow2');
  const bytes = readFileSync(image);
  bytes.writeBigUInt64BE(2n ** 50n, 40);
  writeFileSync(image, bytes);
  expect(await warningsOf(scope, image)).toContain('seems to be cut short');
});

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
