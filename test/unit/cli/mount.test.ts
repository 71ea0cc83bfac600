import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { writeAt } from '../../support/files.js';
import { whenWaiting } from '../../support/hanging.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { mountsBelow } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';

const PATTERN = Buffer.alloc(3 * 65_536, 'every byte counts; ');

/** nbdkit on a file of 16 MiB, as a child of the program. */
async function fileServer(scope: Scope): Promise<string[]> {
  const disk = scope.path('disk');
  await writeFile(disk, '');
  await truncate(disk, 16 * 1024 * 1024);
  return ['[', 'nbdkit', 'file', disk, ']'];
}

const writePattern = (file: string): Promise<void> => writeAt(file, PATTERN, 4096);

/** Whether the pattern is on the disk of `fileServer`. */
async function hasPattern(scope: Scope): Promise<boolean> {
  return (await readFile(scope.path('disk'))).subarray(4096, 4096 + PATTERN.length).equals(PATTERN);
}

/** A line for each child of a process: its number and its name. */
async function childrenOf({ pid }: Program): Promise<string[]> {
  return (await runProgram('ps', '--ppid', String(pid), '-o', 'pid=,comm=')).trim().split('\n');
}

/** Kills the nbdkit that is a child of nbdfuse. */
async function killNbdkit(program: Program): Promise<void> {
  const line = (await childrenOf(program)).find((child) => child.includes('nbdkit'));
  process.kill(Number.parseInt(line ?? '', 10), 'SIGKILL');
}

/** The content of a file, or undefined where there is none. */
async function contentOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined);
}

/** Starts nbdfuse on a fresh directory; it may fail. */
async function start(scope: Scope, words: readonly string[], options: readonly string[] = []) {
  await runProgram('mkdir', '-p', scope.path('mnt'));
  return startNbdfuse(scope, [...options, scope.path('mnt'), ...words]);
}

describe('mount', () => {
  it('writes its process number into the pidfile when ready, and removes it at the end', async () => {
    const scope = createScope();
    const mounted = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '16M', ']'] });
    expect(await contentOf(mounted.pidfile)).toBe(String(mounted.program.pid));
    expect((await stat(mounted.file)).size).toBe(16 * 1024 * 1024);
    await runProgram('umount', mounted.mountpoint);
    expect(await mounted.program.ended).toBe(0);
    expect(mounted.stderr).toBe('');
    expect(await contentOf(mounted.pidfile)).toBeUndefined();
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
    'ends in order on %s, with every byte at the server',
    async (signal) => {
      const scope = createScope();
      const mounted = await mountDisk(scope, { server: await fileServer(scope) });
      await writePattern(mounted.file);
      expect((await childrenOf(mounted.program)).join()).toContain('nbdkit');
      expect(await mounted.stop(signal)).toBe(0);
      expect(mounted.stderr).toBe('');
      expect(await hasPattern(scope)).toBe(true);
      expect(await mountsBelow(scope.folder)).toEqual([]);
      expect(await contentOf(mounted.pidfile)).toBeUndefined();
    },
  );

  it('detaches from a mountpoint in use, with its writes at the server, and reports that', async () => {
    const scope = createScope();
    const mounted = await mountDisk(scope, { server: await fileServer(scope) });
    const user = new Program(scope, 'sh', ['-c', 'exec 3<"$0"; echo >&2 open; read -r line', mounted.file], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    await user.says(/open/);
    await writePattern(mounted.file);
    expect(await mounted.stop()).toBe(0);
    expect(mounted.program.stderr).toMatch(/^nbdfuse: .*\/mnt is in use: nbdfuse detached it/);
    expect(await hasPattern(scope)).toBe(true);
    expect(await mountsBelow(scope.folder)).toEqual([]);
  });

  it('over a file makes that file the disk', async () => {
    const scope = createScope();
    await writeFile(scope.path('mnt'), 'what was there');
    const server = ['[', 'nbdkit', 'memory', '16M', ']'];
    const mounted = await mountDisk(scope, { server, form: 'existing file' });
    expect((await stat(mounted.file)).size).toBe(16 * 1024 * 1024);
    await writePattern(mounted.file);
    expect(await mounted.stop()).toBe(0);
    expect(await contentOf(mounted.file)).toBe('what was there');
  });

  it('shows the file under the given name', async () => {
    const scope = createScope();
    const server = ['--command', 'nbdkit', '-s', 'memory', '1M'];
    const mounted = await mountDisk(scope, { server, form: 'file name' });
    expect(await runProgram('ls', mounted.mountpoint)).toBe('disk.raw\n');
    await runProgram('umount', mounted.mountpoint);
    expect(await mounted.program.ended).toBe(0);
  });

  it('refuses writers when read-only', async () => {
    const server = ['[', 'nbdkit', 'memory', '16M', ']'];
    const mounted = await mountDisk(createScope(), { server, options: ['-r'] });
    await expect(open(mounted.file, 'r+')).rejects.toThrow('EROFS');
  });
});

describe('mount with a lost server', () => {
  const SERVER = ['memory', '16M'];
  const head = (file: string): Promise<string> => runProgram('head', '-c', '100', file);

  it('waits, and answers pending requests when the server is back', async () => {
    const scope = createScope();
    const { program, uri } = await startNbdkit(scope, ...SERVER);
    const mounted = await mountDisk(scope, { server: [uri()] });
    await program.kill('SIGKILL');
    await mounted.program.says(/the server is lost: .*; reconnecting/);
    const reading = head(mounted.file);
    await startNbdkit(scope, ...SERVER);
    expect((await reading).length).toBe(100);
    await mounted.program.says(/reconnected after/);
    expect(await mounted.stop()).toBe(0);
  });

  it('fails requests with EIO at once with --reconnect=0, and works again later', async () => {
    const scope = createScope();
    const { program, uri } = await startNbdkit(scope, ...SERVER);
    const mounted = await mountDisk(scope, { server: [uri()], options: ['--reconnect=0'] });
    await program.kill('SIGKILL');
    await mounted.program.says(/fail with EIO until it is back/);
    await expect(head(mounted.file)).rejects.toThrow('Input/output error');
    await startNbdkit(scope, ...SERVER);
    await mounted.program.says(/reconnected/);
    expect((await head(mounted.file)).length).toBe(100);
  });

  it('reports the status and the last output of a child, and fails reads', async () => {
    const mounted = await mountDisk(createScope(), { server: ['[', 'nbdkit', '-f', ...SERVER, ']'] });
    await killNbdkit(mounted.program);
    await mounted.program.says(
      /mnt\/nbd: the server is lost: nbdkit was killed by SIGKILL; .*EIO from now on\n/,
    );
    await expect(head(mounted.file)).rejects.toThrow('Input/output error');
    await runProgram('umount', mounted.mountpoint);
    expect(await mounted.program.ended).toBe(1);
  });

  it('starts the server again with --restart', async () => {
    const server = ['[', 'nbdkit', '-f', ...SERVER, ']'];
    const mounted = await mountDisk(createScope(), { server, options: ['--restart'] });
    await killNbdkit(mounted.program);
    await mounted.program.says(/reconnected/);
    expect((await head(mounted.file)).length).toBe(100);
    expect(await mounted.stop()).toBe(0);
  });

  it('ends at a second signal although the server hangs, and reports unwritten data', async () => {
    const scope = createScope();
    const { program, uri } = await startNbdkit(scope, ...SERVER);
    const mounted = await mountDisk(scope, { server: [uri()], options: ['-C', '1', '--cache=none'] });
    program.child.kill('SIGSTOP');
    const words = ['if=/dev/zero', `of=${mounted.file}`, 'bs=64k', 'count=1', 'conv=notrunc'];
    await whenWaiting(new Program(scope, 'dd', words), /fuse|request_wait/);
    mounted.program.child.kill('SIGTERM');
    await new Promise((next) => setImmediate(next));
    expect(await mounted.program.kill('SIGINT')).toBe(1);
    expect(mounted.stderr).toMatch(
      /65536 bytes are not on the server's disk \(timeout\): offset 0 length 65536/,
    );
  });
});

describe('stale mount', () => {
  it('of a killed nbdfuse is removed by the next start, which reports that', async () => {
    const scope = createScope();
    const server = ['[', 'nbdkit', 'memory', '16M', ']'];
    const first = await mountDisk(scope, { server });
    await first.program.kill('SIGKILL');
    await rm(first.pidfile);
    await expect(stat(first.file)).rejects.toThrow('ENOTCONN');
    const second = await mountDisk(scope, { server });
    expect(second.stderr).toMatch(/^nbdfuse: .*mnt: removed the stale mount that an earlier nbdfuse/);
    expect((await stat(second.file)).size).toBe(16 * 1024 * 1024);
    expect(await second.stop()).toBe(0);
  });
});

describe('failed start', () => {
  it.each<[string, string[], RegExp]>([
    [
      'a file that is none',
      ['disk.qcow2'],
      /^nbdfuse: there is no file disk\.qcow2; for an NBD server, use nbd:\/\/HOST\n$/,
    ],
    ['a URI that is none', ['nbd:disk'], /^nbdfuse: bad NBD URI/],
    [
      'a socket that is not there',
      ['--unix', '/nonexistent'],
      /^nbdfuse: cannot connect to socket \/nonexistent: /,
    ],
    [
      'a program that is not there',
      ['[', 'no-such-server', ']'],
      /^nbdfuse: cannot start no-such-server: no such program/,
    ],
    [
      'a server that exits',
      ['[', 'sh', '-c', 'echo oops >&2; exit 3', ']'],
      /^oops\nnbdfuse: sh exited with status 3: oops$/m,
    ],
    ['a command that says nothing', ['--command', 'false'], /^nbdfuse: false exited with status 1$/m],
  ])('reports why in one line and leaves nothing behind: %s', async (_, words, message) => {
    const scope = createScope();
    const program = await start(scope, words);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(message);
    const lines = program.stderr.trimEnd().split('\n');
    expect(lines.filter((line) => line.startsWith('nbdfuse:'))).toHaveLength(1);
    expect(await mountsBelow(scope.folder)).toEqual([]);
  });

  it('because of the command line has status 1', async () => {
    const program = startNbdfuse(createScope(), ['-C', '0', 'dir', 'nbd://localhost']);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe('nbdfuse: --connections 0: must be a whole number from 1 to 1024\n');
  });

  it('because of the pidfile starts nothing', async () => {
    const scope = createScope();
    const server = ['[', 'sh', '-c', 'touch "$0"; exec nbdkit memory 1M', scope.path('started'), ']'];
    const program = await start(scope, server, ['-P', scope.path('missing', 'pid')]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/^nbdfuse: cannot write the pidfile \S+: no such file or directory/);
    expect(existsSync(scope.path('started'))).toBe(false);
    expect(await mountsBelow(scope.folder)).toEqual([]);
  });

  it.each([
    ['--pidfile', /^nbdfuse: cannot write the pidfile \S+: no such file or directory\n$/],
    ['--metrics', /^nbdfuse: cannot serve metrics at unix:\S+: no such file or directory\n$/],
  ])('because of %s looks at no image', async (option, message) => {
    const scope = createScope();
    await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', scope.path('disk.qcow2'), '1M');
    const path = scope.path('missing', 'file');
    const value = option === '--metrics' ? `unix:${path}` : path;
    const program = await start(scope, [scope.path('disk.qcow2')], [`${option}=${value}`]);
    expect(await program.ended).toBe(1);
    // Not even which format it has.
    expect(program.stderr).toMatch(message);
  });

  it('because of a signal reports that', async () => {
    const program = await start(createScope(), ['--command', 'sh', '-c', 'echo started >&2; sleep 60']);
    await program.says(/started/);
    expect(await program.kill('SIGTERM')).toBe(1);
    expect(program.stderr).toBe('started\nnbdfuse: stopped by SIGTERM before the mount was ready\n');
  });
});

describe('information options', () => {
  it.each([['--help'], ['--version'], ['--long-options'], ['--short-options'], ['--fuse-help']])(
    'print to standard output with status 0: %s',
    async (word) => {
      const program = startNbdfuse(createScope(), [word]);
      expect(await program.ended).toBe(0);
      expect(program.stdout.length).toBeGreaterThan(10);
    },
  );

  it('--help loads no module that connects or mounts', async () => {
    const script = `
      const { main } = await import(${JSON.stringify(resolve('dist/cli/main.js'))});
      await main(['--help']);
      const maps = (await import('node:fs')).readFileSync('/proc/self/maps', 'utf8');
      process.exit(maps.includes('koffi') ? 1 : 0);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    expect((await once(child, 'exit'))[0]).toBe(0);
  });

  it('survive a reader that closes the pipe', async () => {
    const text = await runProgram('sh', '-c', `'${NBDFUSE}' --help | head -n 1`);
    expect(text).toBe('Show an NBD export or a disk image as one raw file.\n');
  });
});
