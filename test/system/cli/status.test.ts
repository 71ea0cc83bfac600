// `nbdfuse --status`, the extended attributes, SIGUSR1 and `--unmount` on real mounts.

import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it, test } from 'vitest';
import { rateTable } from '../../../src/cli/commands/rates.js';
import { bytesText, statusText, timeText } from '../../../src/session/status-text.js';
import type { Status } from '../../../src/worker/contract/status.js';
import { createScope } from '../../support/cleanup.js';
import { writeAt } from '../../support/files.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { STATUS } from '../../unit/cli/status-sample.js';

requirePrograms('nbdkit', 'getfattr', 'dd');

const MIB = 1024 * 1024;

async function statusAt(mountpoint: string): Promise<readonly (Status & { path: string })[]> {
  const text = await runProgram('node', NBDFUSE, '--status', '--json', mountpoint);
  return (JSON.parse(text) as { files: (Status & { path: string })[] }).files;
}

describe('stopped nbdfuse', () => {
  it.each([['--status'], ['--status', '--watch'], ['--unmount']])(
    '%s %s: reports it and ends',
    async (...options) => {
      const scope = createScope();
      const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
      // The kernel caches names and attributes: without the process, only some calls wait.
      await runProgram('stat', disk.file);
      disk.program.child.kill('SIGSTOP');
      const outcome = await tryProgram(
        'node',
        NBDFUSE,
        ...options.filter((one) => one !== undefined),
        disk.mountpoint,
      );
      disk.program.child.kill('SIGCONT');
      expect(outcome).toEqual({
        status: 1,
        stdout: '',
        stderr: expect.stringMatching(
          /^nbdfuse: .*\/mnt does not answer in 3 s: .*kill -CONT PID.*fusermount3 -u -z .*mnt\n$/,
        ),
      });
      expect(await disk.stop()).toBe(0);
    },
  );

  it('--status --watch: reports it, when it is stopped later', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
    const watch = new Program(scope, 'node', [NBDFUSE, '--status', '--watch', disk.mountpoint]);
    await watch.says(/in flight/);
    disk.program.child.kill('SIGSTOP');
    expect(await watch.ended).toBe(1);
    expect(watch.stderr).toMatch(/^nbdfuse: .*\/mnt does not answer in 3 s: /);
    disk.program.child.kill('SIGCONT');
    expect(await disk.stop()).toBe(0);
  });
});

describe('--status', () => {
  it('shows the mount and its activity', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '8M');
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['-C', '2'] });
    await runProgram('dd', `if=${disk.file}`, 'of=/dev/null', 'bs=1M', 'iflag=direct');
    await runProgram(
      'dd',
      'if=/dev/zero',
      `of=${disk.file}`,
      'bs=1M',
      'count=3',
      'oflag=direct',
      'conv=notrunc',
    );
    await until(
      'both connections',
      async () => (await statusAt(disk.mountpoint))[0].connections.length === 2,
    );
    const [status] = await statusAt(disk.mountpoint);
    expect(status).toMatchObject({
      path: disk.file,
      pid: disk.program.pid,
      server: server.uri(),
      tls: false,
      size: String(8 * MIB),
      readOnly: false,
      cache: 'writeback',
      state: 'connected',
      reads: { count: 8, bytes: 8 * MIB },
      writes: { count: 3, bytes: 3 * MIB },
      unflushedBytes: 3 * MIB,
    });
    expect(status.bytesReceived).toBeGreaterThan(8 * MIB);
    expect(status.bytesSent).toBeGreaterThan(3 * MIB);
    expect(status.reads.histogram.reduce((sum, count) => sum + count)).toBe(8);
    const text = await runProgram('node', NBDFUSE, '--status', disk.file);
    expect(text).toContain('reads        8 (8 MiB), median ');
    expect(text).toContain('unflushed    3 MiB');
    await runProgram('sync', disk.file);
    expect((await statusAt(disk.mountpoint))[0]).toMatchObject({ unflushedBytes: 0, flushes: 1 });
  });

  it('shows the activity of each file with --all', async () => {
    const scope = createScope();
    const folder = scope.path('images');
    await runProgram('mkdir', folder);
    for (const name of ['a', 'b']) await runProgram('truncate', '--size=4M', `${folder}/${name}`);
    const server = await startNbdkit(scope, 'file', `dir=${folder}`);
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--all', '-C', '1'] });
    const [a, b] = [`${disk.mountpoint}/a`, `${disk.mountpoint}/b`];
    await runProgram('dd', `if=${a}`, 'of=/dev/null', 'bs=1M', 'iflag=direct');
    await runProgram('dd', 'if=/dev/zero', `of=${b}`, 'bs=1M', 'count=3', 'oflag=direct', 'conv=notrunc');
    await runProgram('sync', b);
    const files = await statusAt(disk.mountpoint);
    expect(files.map(({ path }) => path)).toEqual([a, b]);
    const [read, written] = files;
    expect(read).toMatchObject({ reads: { count: 4, bytes: 4 * MIB }, writes: { count: 0 }, flushes: 0 });
    expect(written).toMatchObject({ reads: { count: 0 }, writes: { count: 3, bytes: 3 * MIB }, flushes: 1 });
    expect(read.bytesReceived).toBeGreaterThan(4 * MIB);
    expect(read.bytesSent).toBeLessThan(MIB);
    expect(written.bytesSent).toBeGreaterThan(3 * MIB);
    expect(written.bytesReceived).toBeLessThan(MIB);
  });

  it('shows a lost server', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--reconnect=0', '-C', '1'] });
    await server.program?.kill('SIGKILL');
    await until('the loss', async () => (await statusAt(disk.mountpoint))[0].state === 'EIO');
    expect((await statusAt(disk.mountpoint))[0]).toMatchObject({ connections: [], lostConnections: 1 });
    await disk.stop();
  });

  it('watches until the mount is gone', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
    const watch = new Program(scope, 'node', [NBDFUSE, '--status', '--watch', disk.mountpoint]);
    await watch.says(/file .* state .*\n.*1 connections/);
    await disk.stop();
    expect(await watch.ended).toBe(0);
    expect(watch.stderr).toBe(`nbdfuse: ${disk.mountpoint} has been unmounted\n`);
  });

  it('--watch: fails when the process of the mount is killed', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
    const watch = new Program(scope, 'node', [NBDFUSE, '--status', '--watch', disk.mountpoint]);
    await watch.says(/1 connections/);
    await disk.program.kill('SIGKILL');
    const status = await watch.ended;
    await runProgram('fusermount3', '-u', disk.mountpoint);
    expect(status).toBe(1);
    expect(watch.stderr).toBe(
      `nbdfuse: ${disk.mountpoint}: its nbdfuse is gone, unmount it with nbdfuse --unmount\n`,
    );
  });

  it('counts requests that fail without a server as errors, not as bytes', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const disk = await mountDisk(scope, { server: [server.uri()], options: ['--reconnect=0', '-C', '1'] });
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect((await statusAt(disk.mountpoint))[0]).toMatchObject({ version, errors: 0, serverErrors: 0 });
    await server.program?.kill('SIGKILL');
    await until('the loss', async () => (await statusAt(disk.mountpoint))[0].state === 'EIO');
    const read = await tryProgram(
      'dd',
      `if=${disk.file}`,
      'of=/dev/null',
      'bs=4096',
      'count=1',
      'iflag=direct',
    );
    const words = ['if=/dev/zero', `of=${disk.file}`, 'bs=4096', 'count=2', 'conv=notrunc', 'oflag=direct'];
    expect([read.status, (await tryProgram('dd', ...words)).status]).toEqual([1, 1]);
    const [{ reads, writes, errors }] = await statusAt(disk.mountpoint);
    expect({ reads, writes, errors }).toMatchObject({
      reads: { count: 0, bytes: 0, errors: 1, seconds: 0, histogram: [] },
      writes: { count: 0, bytes: 0, errors: 1, seconds: 0, histogram: [] },
      errors: 2,
    });
    await disk.stop();
  });

  it('reports that a path is no mount of nbdfuse', async () => {
    const scope = createScope();
    const file = scope.path('plain');
    await writeAt(await createEmpty(file), Buffer.from('x'), 0);
    expect(await tryProgram('node', NBDFUSE, '--status', file)).toEqual({
      status: 1,
      stdout: '',
      stderr: `nbdfuse: cannot read the status of ${file}: it is not a file of nbdfuse, or fuse-native serves it\n`,
    });
    expect((await tryProgram('node', NBDFUSE, '--status', scope.path('none'))).stderr).toBe(
      `nbdfuse: ${scope.path('none')}: no such file or directory\n`,
    );
  });
});

async function createEmpty(path: string): Promise<string> {
  await runProgram('touch', path);
  return path;
}

describe('extended attributes', () => {
  it('have the whole status and its fields, for every reader of the file', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, '-r', 'memory', '1M');
    const disk = await mountDisk(scope, { server: [server.uri()] });
    const values = await runProgram('getfattr', '--absolute-names', '-d', disk.file);
    expect(values).toContain(`user.nbd.server="${server.uri()}"`);
    expect(values).toContain('user.nbd.size="1048576"');
    expect(values).toContain('user.nbd.read-only="true"');
    expect(values).toMatch(/user\.nbd\.flags="NBD_FLAG_HAS_FLAGS .*NBD_FLAG_CAN_MULTI_CONN/);
    const words = ['--only-values', '--absolute-names', '-n', 'user.nbd.status', disk.file];
    expect(JSON.parse(await runProgram('getfattr', ...words))).toMatchObject({ pid: disk.program.pid });
    const field = async (name: string): Promise<unknown> =>
      JSON.parse(
        await runProgram(
          'getfattr',
          '--only-values',
          '--absolute-names',
          '-n',
          `user.nbd.${name}`,
          disk.file,
        ),
      );
    expect(await field('connections')).toContainEqual({ number: 0, inFlight: 0 });
    expect(await field('waits')).toEqual([]);
    expect(await runProgram('getfattr', '--absolute-names', '-d', disk.mountpoint)).toBe('');
    const missing = await tryProgram('getfattr', '--absolute-names', '-n', 'user.nbd.none', disk.file);
    expect(missing.stderr).toContain('No such attribute');
  });

  it('cannot be set', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
    const { status, stderr } = await tryProgram('setfattr', '-n', 'user.nbd.size', '-v', '1', disk.file);
    expect([status, stderr.includes('not supported')]).toEqual([1, true]);
  });

  it('do not make the kernel send a GETXATTR before every write', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'], options: ['-v'] });
    await runProgram('dd', 'if=/dev/zero', `of=${disk.file}`, 'bs=512', 'count=1000', 'conv=notrunc');
    expect(disk.stderr.match(/FUSE_GETXATTR/g)?.length ?? 0).toBeLessThan(5);
  });
});

test('SIGUSR1: prints the status, and the mount continues', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  process.kill(disk.program.pid, 'SIGUSR1');
  await until('the status', () => /process {6}\d+, up \d+ s, nbdfuse \d/.test(disk.stderr));
  expect(disk.stderr).toContain(
    `nbdfuse: ${disk.file}\nnbdfuse:   server       socket-activation nbdkit memory 1M\n`,
  );
  expect((await readFile(disk.file)).length).toBe(MIB);
});

describe('--unmount', () => {
  it.each([['directory'], ['file name'], ['existing file']] as const)(
    'returns when everything is written and the process has gone, on a mountpoint of the form %s',
    async (form) => {
      const scope = createScope();
      const backing = scope.path('disk');
      await runProgram('truncate', '--size=4M', backing);
      const server = ['[', 'nbdkit', '--filter=delay', 'file', backing, 'wdelay=100ms', ']'];
      const disk = await mountDisk(scope, { server, form });
      await writeAt(disk.file, Buffer.alloc(2 * MIB, 'w'), 0);
      await runProgram('node', NBDFUSE, '--unmount', form === 'file name' ? disk.file : disk.mountpoint);
      expect(await processesOf(scope.folder)).toEqual([]);
      expect(await disk.program.ended).toBe(0);
      expect((await readFile(backing)).subarray(0, 2 * MIB).every((byte) => byte === 0x77)).toBe(true);
    },
  );

  it('reports the next step for a mount in use', async () => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
    const user = new Program(scope, 'sh', ['-c', `exec 9<'${disk.file}'; echo here; exec sleep infinity`]);
    await user.says(/here/);
    const { status, stderr } = await tryProgram('node', NBDFUSE, '--unmount', disk.mountpoint);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^nbdfuse: cannot unmount .*busy.*; fuser -vm .* shows which programs use it\n$/);
    await user.kill('SIGKILL');
    expect(await readdir(disk.mountpoint)).toEqual(['nbd']);
  });

  it('reports that nothing is mounted', async () => {
    const scope = createScope();
    expect((await tryProgram('node', NBDFUSE, '--unmount', scope.folder)).stderr).toBe(
      `nbdfuse: no nbdfuse file system is mounted at ${scope.folder}\n`,
    );
  });
});

describe('status text', () => {
  test('has bytes and times in readable units', () => {
    expect([0, 1023, 1024, 1536, 123_456_789].map((bytes) => bytesText(bytes))).toEqual([
      '0 bytes',
      '1023 bytes',
      '1 KiB',
      '1.50 KiB',
      '117.7 MiB',
    ]);
    expect([1, 999, 2048, 3_000_000].map((time) => timeText(time))).toEqual([
      '1 us',
      '999 us',
      '2.0 ms',
      '3.0 s',
    ]);
  });

  test('has every fact, and escapes control characters', () => {
    const text = statusText('dir/nbd', STATUS);
    expect(text).not.toContain('\x1b');
    expect(text).toContain('  connections  2 with TLS, requests in flight: 3 + 0\n');
    expect(text).toContain('  reads        3 (12 KiB), 2 failed, median 64 us, 99th percentile 2.0 ms\n');
    expect(text).toContain('  writes       none\n');
    expect(text).toContain('  read ahead   2 MiB fetched, 5 hits, 1 MiB unused\n');
    expect(statusText('x', { ...STATUS, threads: 3 })).toContain(
      '  connections  2 with TLS, 3 threads, requests in flight: 3 + 0\n',
    );
    expect(statusText('x', { ...STATUS, connections: [], state: 'EIO' })).toContain(
      'connections  none: EIO\n',
    );
    expect(text).not.toContain('passthrough');
    expect(statusText('x', { ...STATUS, passthrough: { active: true } })).toContain('  passthrough  yes\n');
    const passthrough = { active: false, why: 'a\x1bb' };
    expect(statusText('x', { ...STATUS, passthrough })).toContain('  passthrough  no: a');
    expect(text).not.toContain('waiting');
    const waits = [
      { reason: 'overlap', count: 2, start: '0', end: '65536' },
      { reason: 'proof', count: 1, start: '0', end: '4096', secondsLeft: 9 },
      { reason: 'replay', count: 3, total: 7 },
      { reason: 'identity', count: 1 },
      { reason: 'flush', count: 2 },
      { reason: 'connection', count: 5, seconds: 12 },
    ];
    expect(statusText('x', { ...STATUS, waits, unresolvedWrites: 2 })).toContain(
      `  waiting      2 requests for an older one, bytes 0 to 65536
  waiting      1 request for proof about a lost write, bytes 0 to 4096; EIO in 9 s
  waiting      all requests for the replay, 3 of 7 writes left
  waiting      1 new connection for the check of the disk
  waiting      2 new connections for a FLUSH on an older one
  waiting      5 requests for a connection, lost 12 s ago
  lost         2 writes on lost connections, which the server may still make
`,
    );
    expect(text).not.toContain('lost writes');
    expect(statusText('x', { ...STATUS, writebackErrors: 1 })).toContain(
      '  lost writes  acknowledged writes may have been lost (once)\n',
    );
  });

  test('of --watch covers only the time between two samples', () => {
    const histogram = STATUS.reads.histogram.map((count, i) => (i === 11 ? count + 10 : count));
    const later = { ...STATUS, reads: { ...STATUS.reads, count: 13, bytes: 53_248, histogram } };
    const table = rateTable([{ path: 'a', status: STATUS }], [{ path: 'a', status: later }], 2);
    const [head, row] = table.split('\n').map((line) => line.split(/ {2,}/));
    expect(head.slice(0, 6)).toEqual(['file', 'state', 'reads/s', 'bytes/s', 'p50', 'p99']);
    expect(row.slice(0, 6)).toEqual(['a', '2 connections', '5', '20 KiB', '2.0 ms', '2.0 ms']);
    // A file that has replaced another of its name counts anew.
    expect(rateTable([{ path: 'a', status: later }], [{ path: 'a', status: STATUS }])).toContain(' 0 bytes');
    expect(rateTable([{ path: 'a', status: later }], [{ path: 'a', status: STATUS }])).not.toContain('-10');
  });
});
