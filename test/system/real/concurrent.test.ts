import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;
const REGION = 8 * MIB;
const BLOCK = 96 * 1024 + 5;

/** The content for a place: it depends on the place and on the writer. */
function contentOf(region: number, offset: number, length: number): Buffer {
  const seed = createHash('sha256').update(`${region} ${offset}`).digest();
  return Buffer.alloc(length, seed);
}

function* blocksOf(): Generator<[offset: number, length: number]> {
  for (let offset = 0; offset < REGION; offset += BLOCK) yield [offset, Math.min(BLOCK, REGION - offset)];
}

async function fill(scope: Scope, file: string, region: number): Promise<void> {
  const handle = await openFile(scope, file, 'r+');
  for (const [offset, length] of blocksOf())
    await handle.write(contentOf(region, offset, length), 0, length, region * REGION + offset);
  await handle.close();
}

async function check(file: string, region: number): Promise<void> {
  for (const [offset, length] of blocksOf()) {
    const found = await readAt(file, region * REGION + offset, length);
    expect(found.equals(contentOf(region, offset, length)), `region ${region}, offset ${offset}`).toBe(true);
  }
}

it.each([
  ['one connection', ['-C', '1']],
  ['four connections', ['-C', '4']],
  ['--cache=none', ['--cache=none']],
  ['fuse-native', ['--fuse-backend=fuse-native']],
])('concurrency: serves four readers and four writers at once, with %s', async (_, options) => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '64M');
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const readers = [0, 1, 2, 3];
  const writers = [4, 5, 6, 7];
  await Promise.all(readers.map((region) => fill(scope, disk.file, region)));
  await Promise.all([
    ...readers.map((region) => check(disk.file, region)),
    ...writers.map((region) => fill(scope, disk.file, region)),
  ]);
  expect(await disk.stop()).toBe(0);
  const again = await mountDisk(scope, { server: [server.uri()], name: 'again' });
  for (const region of [...readers, ...writers]) await check(again.file, region);
});
