// Ways to copy a sparse image onto a disk with other contents: afterwards the disk must equal the image.

import { readFile, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-img', 'cp', 'dd', 'fallocate');

const SIZE = 8 * 1024 * 1024;

const WAYS: readonly (readonly [string, ...string[]])[] = [
  ['cp', '--sparse=never'],
  ['cp', '--sparse=always'],
  ['dd', 'bs=1M', 'conv=notrunc', 'status=none'],
  ['qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw'],
];

it.each(WAYS)('copy onto the mount: %s %s writes holes as zeros', async (program, ...words) => {
  const scope = createScope();
  const [image, old] = [scope.path('image.raw'), scope.path('old.raw')];
  await writeFile(image, Buffer.alloc(SIZE).fill('new', 3_000_000, 3_300_000));
  await runProgram('fallocate', '--dig-holes', image);
  await writeFile(old, Buffer.alloc(SIZE, 'old'));
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', old, ']'] });
  const named = program === 'dd' ? [`if=${image}`, `of=${disk.file}`] : [image, disk.file];
  await runProgram(program, ...words, ...named);
  expect((await readFile(disk.file)).equals(await readFile(image))).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect((await readFile(old)).equals(await readFile(image))).toBe(true);
});
