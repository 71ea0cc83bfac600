// The options for lost servers, on real servers.

import { truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

const SIZE = 16 * 1024 * 1024;

function createDisk(scope: Scope): string {
  const path = scope.path('disk.raw');
  writeFileSync(path, '');
  truncateSync(path, SIZE);
  return path;
}

/** The nbdkit that nbdfuse has started. */
async function childOf(scope: Scope): Promise<number> {
  const found = (await processesOf(scope.folder)).filter(({ command }) => /^\S*nbdkit /.test(command));
  expect(found).toHaveLength(1);
  return found[0].pid;
}

/** The number of "reconnected" messages of nbdfuse. */
function reconnections({ stderr }: MountedDisk): number {
  return stderr.match(/reconnected after/g)?.length ?? 0;
}

it.each([
  ['by socket activation', (disk: string) => ['[', 'nbdkit', '-f', '--filter=cache', 'file', disk, ']']],
  ['on its standard input', (disk: string) => ['--command', 'nbdkit', '-s', '--filter=cache', 'file', disk]],
])('--restart: starts a server again %s, which has all acknowledged data', async (_, words) => {
  const scope = createScope();
  const disk = await mountDisk(scope, {
    server: words(createDisk(scope)),
    options: ['--restart', '--cache=none'],
  });
  const file = await openFile(scope, disk.file, 'r+');
  for (let round = 0; round < 3; round++) {
    await file.write(Buffer.alloc(4096, `round ${round}; `), 0, 4096, round * 4096);
    process.kill(await childOf(scope), 'SIGKILL');
    await until('the restart', () => reconnections(disk) === round + 1);
  }
  const { buffer } = await file.read(Buffer.alloc(3 * 4096), 0, 3 * 4096, 0);
  for (let round = 0; round < 3; round++) {
    const expected = Buffer.alloc(4096, `round ${round}; `);
    expect(buffer.subarray(round * 4096, (round + 1) * 4096).equals(expected)).toBe(true);
  }
});

/** blocksize-policy wants all three. */
const LARGER = ['blocksize-preferred=4096', 'blocksize-maximum=1M'];

it.each<[string, (disk: string) => void, (disk: string) => string[], RegExp]>([
  [
    'smaller',
    (disk) => truncateSync(disk, SIZE / 2),
    (disk) => ['file', disk],
    /came back with another export: the size is 8388608 bytes, not 16777216; reads and writes fail with EIO/,
  ],
  [
    'read-only',
    () => undefined,
    (disk) => ['-r', 'file', disk],
    /came back with another export: the transmission flags are/,
  ],
  [
    'with larger blocks',
    () => undefined,
    (disk) => ['--filter=blocksize-policy', 'file', disk, 'blocksize-minimum=4096', ...LARGER],
    /came back with another export: the block sizes are/,
  ],
])(
  'reconnect: refuses a server that is %s, until the original one returns',
  async (_, change, words, message) => {
    const scope = createScope();
    const path = createDisk(scope);
    const first = await startNbdkit(scope, 'file', path);
    const disk = await mountDisk(scope, { server: [first.uri()], options: ['--cache=none'] });
    await first.program.kill('SIGKILL');
    change(path);
    const second = await startNbdkit(scope, ...words(path));
    await disk.program.says(message);
    await expect(readAt(disk.file, 0, 4096)).rejects.toMatchObject({ code: 'EIO' });
    await second.program.kill('SIGKILL');
    truncateSync(path, SIZE);
    await startNbdkit(scope, 'file', path);
    await disk.program.says(/reconnected after/);
    expect((await readAt(disk.file, 0, 4096)).length).toBe(4096);
  },
);

it('reconnect: requests fail with EIO at once when the time is over, later ones too', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'file', createDisk(scope));
  const options = ['--reconnect=0.5', '--cache=none'];
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const file = await openFile(scope, disk.file, 'r+');
  await server.program.kill('SIGKILL');
  const block = Buffer.alloc(4096, 'x');
  const waiting = [file.read(Buffer.alloc(4096), 0, 4096, 0), file.write(block, 0, 4096, 8192), file.sync()];
  for (const outcome of await Promise.allSettled(waiting))
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'EIO' } });
  const start = performance.now();
  await expect(file.write(block, 0, 4096, 8192)).rejects.toMatchObject({ code: 'EIO' });
  expect(performance.now() - start).toBeLessThan(400);
  expect(disk.stderr).toMatch(/no server\b.*; reads and writes fail with EIO until it is back/);
  await startNbdkit(scope, 'file', scope.path('disk.raw'));
  await disk.program.says(/reconnected after/);
  await file.write(block, 0, 4096, 8192);
  await file.sync();
  expect((await readAt(scope.path('disk.raw'), 8192, 4096)).equals(block)).toBe(true);
});

it('reconnect: --reconnect=forever waits longer than any pause between attempts', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'file', createDisk(scope));
  const disk = await mountDisk(scope, { server: [server.uri()], options: ['--reconnect=forever', '-v'] });
  await server.program.kill('SIGKILL');
  const reading = readAt(disk.file, 0, 4096);
  const attempts = (): number => disk.stderr.match(/cannot reconnect/g)?.length ?? 0;
  await until('some attempts', () => attempts() >= 4);
  await startNbdkit(scope, 'file', scope.path('disk.raw'));
  expect((await reading).length).toBe(4096);
});
