// The promises of each caching mode, seen from the server's side.

import { chmodSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'fio');

const MODES = ['writeback', 'writethrough', 'none'];
const LENGTH = 8192;
const OFFSET = 64 * 1024;

/** A mount, a client that bypasses it, and the server's requests so far. */
interface Watched {
  readonly disk: MountedDisk;
  readonly server: NbdClient;
  requests(): string[];
}

async function mountWatched(scope: Scope, mode: string): Promise<Watched> {
  const log = scope.path('log');
  const { uri } = await startNbdkit(scope, '--filter=log', 'memory', '1M', `logfile=${log}`);
  const server = await NbdClient.connect(uri());
  scope.add(() => server.close());
  const disk = await mountDisk(scope, { server: [uri()], options: [`--cache=${mode}`] });
  const requests = (): string[] =>
    [...readFileSync(log, 'utf8').matchAll(/ (Write|Flush) id=/g)].map(([, name]) => name);
  return { disk, server, requests };
}

const filled = (text: string): Buffer => Buffer.alloc(LENGTH, text);

it.each(MODES)(
  '--cache=%s: fsync returns when the written bytes are at the server and flushed',
  async (mode) => {
    const scope = createScope();
    const { disk, server, requests } = await mountWatched(scope, mode);
    const handle = await openFile(scope, disk.file, 'r+');
    await handle.write(filled('to be kept'), 0, LENGTH, OFFSET);
    await handle.sync();
    expect(requests().at(0)).toBe('Write');
    expect(requests().at(-1)).toBe('Flush');
    expect((await server.read(BigInt(OFFSET), LENGTH)).equals(filled('to be kept'))).toBe(true);
    await handle.close();
  },
);

it.each(['writethrough', 'none'])('--cache=%s: a completed write is at the server', async (mode) => {
  const scope = createScope();
  const { disk, server, requests } = await mountWatched(scope, mode);
  const handle = await openFile(scope, disk.file, 'r+');
  for (const text of ['first', 'second', 'third']) {
    await handle.write(filled(text), 0, LENGTH, OFFSET);
    expect((await server.read(BigInt(OFFSET), LENGTH)).equals(filled(text))).toBe(true);
  }
  expect(requests()).not.toContain('Flush');
  await handle.close();
});

it('--cache=writeback: a write that closes the file is at the server, and reads send no new requests', async () => {
  const scope = createScope();
  const { disk, server } = await mountWatched(scope, 'writeback');
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(filled('ours'), 0, LENGTH, OFFSET);
  await handle.close();
  expect((await server.read(BigInt(OFFSET), LENGTH)).equals(filled('ours'))).toBe(true);
  // The kernel trusts its cache: only --cache=none shows changes by others.
  await server.write(BigInt(OFFSET), filled('theirs'));
  const again = await openFile(scope, disk.file, 'r');
  expect((await again.read(Buffer.alloc(LENGTH), 0, LENGTH, OFFSET)).buffer.equals(filled('ours'))).toBe(
    true,
  );
  await again.close();
});

it('--cache=none: a change at the server shows at once', async () => {
  const scope = createScope();
  const { disk, server } = await mountWatched(scope, 'none');
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(filled('ours'), 0, LENGTH, OFFSET);
  for (const text of ['theirs', 'theirs again']) {
    await server.write(BigInt(OFFSET), filled(text));
    const { buffer } = await handle.read(Buffer.alloc(LENGTH), 0, LENGTH, OFFSET);
    expect(buffer.equals(filled(text))).toBe(true);
  }
  await handle.close();
});

const ALL_USERS = MODES.flatMap((mode) => [
  [mode, 'root', []] as const,
  [mode, 'a normal user', AS_NORMAL_USER] as const,
]);

it.each(ALL_USERS)('--cache=%s: fio finds the data that it wrote, as %s', async (mode, user, prefix) => {
  const scope = createScope();
  if (user !== 'root') admitNormalUser(scope);
  const server = await startNbdkit(scope, 'memory', '64M');
  chmodSync(server.socket, 0o777);
  const [command, ...words] = [...prefix, 'mkdir', scope.path('mnt')];
  await runProgram(command, ...words);
  const disk = await mountDisk(scope, { server: [server.uri()], options: [`--cache=${mode}`], prefix });
  // The benchmark's settings: random writes that bypass the page cache, random writes through it, and large
  // sequential writes.
  const jobs = [
    ['rw=randwrite', 'bs=4k', 'direct=1', 'numjobs=4', 'size=2M', 'offset_increment=2M'],
    ['rw=randwrite', 'bs=4k', 'size=8M', 'offset=16M', 'end_fsync=1'],
    ['rw=write', 'bs=1M', 'size=16M', 'offset=32M', 'end_fsync=1'],
  ];
  const common = ['ioengine=psync', 'allow_file_create=0', 'verify=crc32c', 'verify_fatal=1'];
  common.push('verify_state_save=0', 'thread', 'group_reporting', `filename=${disk.file}`);
  // One after another, each with separate figures.
  const options = jobs.flatMap((job, i) => [`name=job${i}`, 'stonewall', 'new_group', ...common, ...job]);
  const [program, ...args] = [...prefix, 'fio', '--output-format=json', ...options.map((one) => `--${one}`)];
  const report = await runProgram(program, ...args);
  const { jobs: results } = JSON.parse(report.slice(report.indexOf('{'))) as {
    jobs: { error: number; write: { total_ios: number }; read: { total_ios: number } }[];
  };
  expect(results.map(({ error }) => error)).toEqual([0, 0, 0]);
  for (const { read, write } of results) {
    expect(read.total_ios).toBe(write.total_ios);
    expect(read.total_ios).toBeGreaterThan(0);
  }
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
});
