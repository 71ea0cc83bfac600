// nbdfuse with the capabilities and the filters of system calls of its systemd unit.

import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { TIME } from '../../../src/cli/commands/unmount.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt, writeAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { blockAt, convertTo, createRaw } from '../../support/images.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { freePort } from '../../support/run/ports.js';
import { Program, runWithin } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit, startTcpNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { unitRestrictions, wordsOf } from '../../support/systemd-unit.js';

requireRoot();
requirePrograms(
  'nbdkit',
  'qemu-nbd',
  'qemu-img',
  'xz',
  'setpriv',
  'perl',
  'systemd-analyze',
  'unshare',
  'dd',
);

const MIB = 1024 * 1024;
const BLOCK = 65_536;
/** Seconds in which a write must return that needs proof: without proof, it fails after 30. */
const SOON = 10;

async function mountAsUnit(
  scope: Scope,
  server: readonly string[],
  ...options: readonly string[]
): Promise<MountedDisk> {
  return mountDisk(scope, { server, options, prefix: await unitRestrictions(scope) });
}

/** A field of /proc/PID/status. */
function fieldOf({ pid }: Program, name: string): string {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
}

function emptyDisk(scope: Scope): string {
  const path = scope.path('disk.raw');
  writeFileSync(path, '');
  truncateSync(path, 8 * MIB);
  return path;
}

it('systemd unit: its restrictions refuse namespaces, packet sockets and all but five capabilities', async () => {
  const scope = createScope();
  const [first, ...prefix] = await unitRestrictions(scope);
  const run = (...words: readonly string[]) => tryProgram(first, ...prefix, ...words);
  expect(await run('unshare', '-m', 'true')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('Operation not permitted'),
  });
  const packet = 'use Socket; socket(my $s, 17, SOCK_RAW, 0) or die $!';
  expect((await run('perl', '-e', packet)).stderr).toMatch(/Address family not supported/);
  const status = await run('cat', '/proc/self/status');
  expect(status.stdout).toMatch(/^NoNewPrivs:\s*1$/m);
  const set = BigInt(`0x${/^CapEff:\s*(.*)$/m.exec(status.stdout)?.[1]}`);
  // DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, SYS_PTRACE, SYS_ADMIN.
  expect(set).toBe([1n, 2n, 3n, 19n, 21n].reduce((sum, bit) => sum | (1n << bit), 0n));
});

describe('systemd unit: with its restrictions', () => {
  it.each(['--cache=writeback', '--cache=none'])(
    'a mount reads, writes and flushes, with %s',
    async (cache) => {
      const scope = createScope();
      const path = emptyDisk(scope);
      const disk = await mountAsUnit(scope, ['[', 'nbdkit', 'file', path, ']'], cache);
      expect(fieldOf(disk.program, 'Seccomp')).toBe('2');
      const bytes = Buffer.alloc(MIB, 'through the unit; ');
      const file = await openFile(scope, disk.file, 'r+');
      await file.write(bytes, 0, bytes.length, BLOCK);
      await file.sync();
      expect((await readFile(path)).subarray(BLOCK, BLOCK + MIB).equals(bytes)).toBe(true);
      expect((await readAt(disk.file, BLOCK, MIB)).equals(bytes)).toBe(true);
      await file.close();
      const [first, ...prefix] = await unitRestrictions(scope);
      const stop = [process.execPath, NBDFUSE, '--unmount', disk.mountpoint];
      expect(await tryProgram(first, ...prefix, ...stop)).toMatchObject({ status: 0, stderr: '' });
      expect(await disk.program.ended).toBe(0);
    },
  );

  it.each(['a Unix socket', 'TCP'])(
    'the end of a killed server on %s is proof: a newer write to the same bytes need not wait',
    async (kind) => {
      const scope = createScope();
      const [path, log] = [emptyDisk(scope), scope.path('log')];
      const port = await freePort();
      const start = (...words: readonly string[]) =>
        kind === 'TCP' ? startTcpNbdkit(scope, port, ...words) : startNbdkit(scope, ...words);
      const late = ['--filter=log', '--filter=delay', 'file', path, `logfile=${log}`, 'wdelay=600'];
      const server = await start(...late);
      const disk = await mountAsUnit(scope, [server.uri()], '--cache=none');
      const write = (letter: string): string[] => {
        const from = scope.path(letter);
        writeFileSync(from, Buffer.alloc(BLOCK, letter));
        return ['dd', `if=${from}`, `of=${disk.file}`, `bs=${BLOCK}`, 'oflag=direct', 'conv=notrunc,fsync'];
      };
      const [first, ...rest] = write('A');
      const older = new Program(scope, first, rest);
      await until('the write to arrive', () => /\bWrite\b/.test(readFileSync(log, 'utf8')));
      await server.program.kill('SIGKILL');
      await start('file', path);
      expect(await older.endsWithin(SOON * 1000)).toBe(0);
      await runWithin(scope, SOON, write('B'));
      expect((await readFile(path)).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
      expect(await disk.stop()).toBe(0);
    },
  );
});

/** Writes without closing the file, says so, and ends with its standard input. */
const WRITER = `
use Fcntl;
sysopen my $file, $ARGV[0], O_RDWR or die $!;
syswrite $file, 'x' x 1048576;
$| = 1;
print "written\\n";
<STDIN>;`;

describe('systemd unit: with its restrictions, and the mount in another mount namespace', () => {
  /** A program in a mount namespace of its own, as in a container, that has written and not flushed. */
  async function writerElsewhere(scope: Scope, file: string): Promise<Program> {
    const words = ['-m', '--propagation', 'private', 'perl', '-e', WRITER, file];
    const writer = new Program(scope, 'unshare', words, { stdio: ['pipe', 'pipe', 'pipe'] });
    await writer.says(/written/);
    return writer;
  }

  it('SIGTERM writes out what programs there have written', async () => {
    const scope = createScope();
    const path = emptyDisk(scope);
    const disk = await mountAsUnit(scope, ['[', 'nbdkit', 'file', path, ']'], '--cache=writeback');
    const writer = await writerElsewhere(scope, disk.file);
    expect((await readFile(path)).includes('x')).toBe(false);
    expect(await disk.stop()).toBe(0);
    expect((await readFile(path)).subarray(0, MIB).equals(Buffer.alloc(MIB, 'x'))).toBe(true);
    writer.child.stdin?.end();
    expect(await writer.ended).toBe(0);
  });

  it('--unmount names the process there', async () => {
    const scope = createScope();
    const path = emptyDisk(scope);
    const disk = await mountAsUnit(scope, ['[', 'nbdkit', 'file', path, ']'], '--cache=writeback');
    const writer = await writerElsewhere(scope, disk.file);
    const [first, ...prefix] = await unitRestrictions(scope);
    const stop = [process.execPath, NBDFUSE, '--unmount', disk.mountpoint];
    const { status, stderr } = await tryProgram(first, ...prefix, ...stop);
    expect(status).toBe(1);
    expect(stderr).toContain(`in the mount namespace of process ${writer.pid} (perl); end that process\n`);
    writer.child.stdin?.end();
    expect(await disk.program.ended).toBe(0);
  });
});

describe('systemd unit: with its restrictions, an image server has its sandbox', () => {
  const IMAGES: readonly (readonly [string, (scope: Scope) => Promise<string>])[] = [
    ['a raw image', (scope) => createRaw(scope, 4)],
    ['a qcow2', async (scope) => convertTo(scope, await createRaw(scope, 4), 'qcow2', 'disk.qcow2')],
    [
      'an xz',
      async (scope) => {
        const raw = await createRaw(scope, 4);
        await runProgram('xz', '-0', '--block-size=1MiB', raw);
        return `${raw}.xz`;
      },
    ],
  ];

  it.each(IMAGES)('with an overlay: %s', async (_, make) => {
    const scope = createScope();
    const disk = await mountAsUnit(scope, [await make(scope)], '-v', '--overlay');
    expect(disk.stderr).toContain('nbdfuse: the image server runs in a sandbox\n');
    await writeAt(disk.file, Buffer.from('written'), MIB);
    expect((await readAt(disk.file, MIB, 7)).toString()).toBe('written');
    expect(await blockAt(disk.file, 2 * MIB)).toBe(512);
    expect(await disk.stop()).toBe(0);
  });

  it('with a cache directory: an image on a web server', async () => {
    const scope = createScope();
    const { url } = await startHttpRangeServer(scope, await createRaw(scope, 4), 'disk.raw');
    for (const name of ['first', 'second']) {
      const server = [url];
      const options = ['--cache-dir', scope.path('cache')];
      const disk = await mountDisk(scope, { server, options, name, prefix: await unitRestrictions(scope) });
      expect(await blockAt(disk.file, 2 * MIB)).toBe(512);
      expect(await disk.stop()).toBe(0);
    }
  });
});

/** Kills every process of a scope, as systemd kills those of a unit: none lives on to tidy up. */
async function killAll(scope: Scope): Promise<void> {
  for (;;) {
    const left = await processesOf(scope.folder);
    if (left.length === 0) return;
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const)
      for (const { pid } of left) runQuietly(() => process.kill(pid, signal));
  }
}

function runQuietly(act: () => void): void {
  try {
    act();
  } catch {
    // It has ended meanwhile.
  }
}

describe('systemd unit: what a killed nbdfuse leaves is in the directory that systemd removes', () => {
  const SERVERS: readonly (readonly [string, (scope: Scope) => Promise<readonly string[]>])[] = [
    ['a server', async (scope) => ['[', 'nbdkit', 'file', emptyDisk(scope), ']']],
    [
      'a compressed qcow2',
      async (scope) => {
        const image = await convertTo(scope, await createRaw(scope, 4), 'qcow2', 'disk.qcow2');
        await runProgram('xz', '-0', image);
        return [`${image}.xz`];
      },
    ],
  ];

  it.each(SERVERS)('%s', async (_, make) => {
    const scope = createScope();
    const server = await make(scope);
    const places = [scope.path('run'), scope.path('tmp')];
    mkdirSync(places[1], { mode: 0o700 });
    const count = (): number[] => places.map((place) => readdirSync(place).length);
    const prefix = ['env', `TMPDIR=${places[1]}`, ...(await unitRestrictions(scope))];
    const disk = await mountDisk(scope, { server, prefix });
    await killAll(scope);
    const [own, others] = count();
    expect(own).toBeGreaterThan(0);
    expect(others).toBe(0);
    await runProgram('umount', disk.mountpoint);
  });

  it("its name is the unit's", () => {
    expect(wordsOf('RuntimeDirectory')).toEqual(['nbdfuse-%i']);
    expect(wordsOf('RuntimeDirectoryMode')).toEqual(['0700']);
  });
});

it('systemd unit: systemd leaves the limit of a start, which may unpack an image, to nbdfuse', () => {
  expect(wordsOf('TimeoutStartSec')).toEqual(['infinity']);
});

it('systemd unit: systemd waits longer for --unmount than that takes', () => {
  const [seconds] = wordsOf('TimeoutStopSec').map(Number);
  // Node.js may start slowly on a busy machine.
  expect(seconds).toBeGreaterThanOrEqual(TIME / 1000 + 10);
});
