// Several connections: nbdfuse uses all, a FLUSH covers the writes of all, and one suffices if the server
// allows only one. nbdkit's log filter names the connection of each request.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fio');

interface Logged {
  readonly disk: MountedDisk;
  /** Numbers of the connections on which there were requests of this kind. */
  users(kind: string): Set<string>;
  lines(): string[];
}

async function mountLogged(
  scope: Scope,
  options: readonly string[],
  filter = '',
  ...settings: readonly string[]
): Promise<Logged> {
  const log = scope.path('log');
  const server = await startNbdkit(
    scope,
    '--filter=log',
    ...(filter === '' ? [] : [filter]),
    'memory',
    '64M',
    `logfile=${log}`,
    ...settings,
  );
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const lines = (): string[] => readFileSync(log, 'utf8').split('\n');
  const users = (kind: string): Set<string> =>
    new Set(lines().flatMap((line) => new RegExp(`connection=(\\d+) ${kind} `).exec(line)?.[1] ?? []));
  return { disk, users, lines };
}

function load(file: string): void {
  execFileSync(
    'fio',
    [
      '--name=load',
      `--filename=${file}`,
      '--size=64M',
      '--rw=randrw',
      '--bs=4k',
      '--direct=1',
      '--numjobs=8',
      '--number_ios=400',
      '--allow_file_create=0',
      '--verify_state_save=0',
    ],
    { stdio: 'ignore' },
  );
}

it('connections: -C 4, the default, uses all four', async () => {
  const scope = createScope();
  const { disk, users, lines } = await mountLogged(scope, []);
  await until('four connections', () => lines().filter((line) => / Preconnect/.test(line)).length >= 4);
  load(disk.file);
  expect(users('Read').size).toBe(4);
  expect(users('Write').size).toBe(4);
});

it('connections: -C 1 uses one', async () => {
  const scope = createScope();
  const { disk, users, lines } = await mountLogged(scope, ['-C', '1']);
  load(disk.file);
  expect(lines().filter((line) => / Preconnect/.test(line)).length).toBe(1);
  expect(users('Read').size).toBe(1);
});

it('connections: a server without NBD_FLAG_CAN_MULTI_CONN gets one', async () => {
  const scope = createScope();
  const { disk, lines } = await mountLogged(
    scope,
    ['-C', '8'],
    '--filter=multi-conn',
    'multi-conn-mode=disable',
  );
  load(disk.file);
  expect(lines().filter((line) => / Preconnect/.test(line)).length).toBe(1);
});

it('FLUSH: leaves after the replies to all writes that it covers, on all connections', async () => {
  const scope = createScope();
  const { disk, lines } = await mountLogged(scope, [], '--filter=delay', 'wdelay=20ms');
  const handle = await openFile(scope, disk.file, 'r+');
  await Promise.all(
    Array.from({ length: 16 }, (_, i) => handle.write(Buffer.alloc(4096, 1), 0, 4096, i * 1_000_000)),
  );
  await handle.sync();
  const order = lines().flatMap((line) => / (\.\.\.Write|Write|Flush) /.exec(line)?.[1] ?? []);
  const flush = order.indexOf('Flush');
  expect(order.slice(0, flush).filter((one) => one === '...Write')).toHaveLength(
    order.slice(0, flush).filter((one) => one === 'Write').length,
  );
  expect(flush).toBeGreaterThan(0);
});

it('FUA: a direct write to a file that is open with O_DSYNC carries it', async () => {
  const scope = createScope();
  const { disk, lines } = await mountLogged(scope, []);
  execFileSync(
    'dd',
    ['if=/dev/zero', `of=${disk.file}`, 'bs=4096', 'count=1', 'oflag=direct,dsync', 'conv=notrunc'],
    {
      stdio: 'ignore',
    },
  );
  expect(lines().some((line) => / Write .*fua=1/.test(line))).toBe(true);
});
