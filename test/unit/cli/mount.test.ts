import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NBDFUSE } from '../../support/run/mount.js';
import { contentOf, createFolder, mount, Running, run, untilThere, untilWaiting } from './running.js';

const PATTERN = Buffer.alloc(3 * 65_536, 'every byte counts; ');

/** nbdkit on a file of 16 MiB, as a child of the program. */
async function fileServer(folder: string): Promise<string[]> {
  const disk = join(folder, 'disk');
  await writeFile(disk, '');
  await truncate(disk, 16 * 1024 * 1024);
  return ['[', 'nbdkit', 'file', disk, ']'];
}

/** nbdkit on a Unix socket, and how to start it again. */
async function socketServer(folder: string) {
  const socket = join(folder, 'socket');
  const start = async (): Promise<Running> => {
    await rm(socket, { force: true });
    const server = new Running('nbdkit', ['-f', '-U', socket, 'memory', '16M']);
    await untilThere(folder, 'socket', server.child);
    return server;
  };
  return { words: ['--unix', socket], start };
}

async function writePattern(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(PATTERN, 0, PATTERN.length, 4096);
  await handle.close();
}

/** Whether a process's children include a program of that name. */
async function childrenOf(pid: number | undefined): Promise<string> {
  return run('ps', '--ppid', String(pid), '-o', 'comm=').catch(() => '');
}

describe('mount', () => {
  it('writes its process number into the pidfile when ready, and removes it at the end', async () => {
    const folder = await createFolder();
    const mounted = await mount(folder, ['[', 'nbdkit', 'memory', '16M', ']']);
    expect(await contentOf(mounted.pidfile)).toBe(String(mounted.child.pid));
    expect((await stat(mounted.file)).size).toBe(16 * 1024 * 1024);
    await run('umount', join(folder, 'dir'));
    expect(await mounted.ended).toBe(0);
    expect(mounted.errors).toBe('');
    expect(await contentOf(mounted.pidfile)).toBeUndefined();
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
    'ends in order on %s, with every byte at the server',
    async (signal) => {
      const folder = await createFolder();
      const mounted = await mount(folder, await fileServer(folder));
      await writePattern(mounted.file);
      const children = await childrenOf(mounted.child.pid);
      expect(children).toContain('nbdkit');
      mounted.child.kill(signal);
      expect(await mounted.ended).toBe(0);
      expect(mounted.errors).toBe('');
      expect(
        (await readFile(join(folder, 'disk'))).subarray(4096, 4096 + PATTERN.length).equals(PATTERN),
      ).toBe(true);
      expect(await run('mount')).not.toContain(folder);
      expect(await contentOf(mounted.pidfile)).toBeUndefined();
    },
  );

  it('detaches from a mountpoint in use, with its writes at the server, and reports that', async () => {
    const folder = await createFolder();
    const mounted = await mount(folder, await fileServer(folder));
    const user = new Running('sh', ['-c', 'exec 3<"$0"; echo >&2 open; read -r line', mounted.file], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    await user.says(/open/);
    await writePattern(mounted.file);
    mounted.child.kill('SIGTERM');
    expect(await mounted.ended).toBe(0);
    expect(mounted.errors).toMatch(/^nbdfuse: .*\/dir is in use: nbdfuse detached it/);
    expect((await readFile(join(folder, 'disk'))).subarray(4096, 4096 + PATTERN.length).equals(PATTERN)).toBe(
      true,
    );
    expect(await run('mount')).not.toContain(folder);
  });

  it('over a file makes that file the disk', async () => {
    const folder = await createFolder();
    const file = join(folder, 'dir', 'plain');
    await writeFile(file, 'what was there');
    const running = new Running(NBDFUSE, [
      '-P',
      join(folder, 'pid'),
      file,
      '[',
      'nbdkit',
      'memory',
      '16M',
      ']',
    ]);
    await untilThere(folder, 'pid', running.child);
    expect((await stat(file)).size).toBe(16 * 1024 * 1024);
    await writePattern(file);
    running.child.kill('SIGTERM');
    expect(await running.ended).toBe(0);
    expect(await contentOf(file)).toBe('what was there');
  });

  it('shows the file under the given name', async () => {
    const folder = await createFolder();
    const file = join(folder, 'dir', 'disk.raw');
    const running = new Running(NBDFUSE, [
      '-P',
      join(folder, 'pid'),
      file,
      '--command',
      'nbdkit',
      '-s',
      'memory',
      '1M',
    ]);
    await untilThere(folder, 'pid', running.child);
    expect(await run('ls', join(folder, 'dir'))).toBe('disk.raw\n');
    await run('umount', join(folder, 'dir'));
    expect(await running.ended).toBe(0);
  });

  it('refuses writers when read-only', async () => {
    const folder = await createFolder();
    const mounted = await mount(folder, ['[', 'nbdkit', 'memory', '16M', ']'], ['-r']);
    await expect(open(mounted.file, 'r+')).rejects.toThrow('EROFS');
  });
});

describe('mount with a lost server', () => {
  it('waits, and answers pending requests when the server is back', async () => {
    const folder = await createFolder();
    const { words, start } = await socketServer(folder);
    const server = await start();
    const mounted = await mount(folder, words);
    server.child.kill('SIGKILL');
    await server.ended;
    await mounted.says(/the server is lost: .*; reconnecting/);
    const reading = run('head', '-c', '100', mounted.file);
    await start();
    expect((await reading).length).toBe(100);
    await mounted.says(/reconnected after/);
    mounted.child.kill('SIGTERM');
    expect(await mounted.ended).toBe(0);
  });

  it('fails requests with EIO at once with --reconnect=0, and works again later', async () => {
    const folder = await createFolder();
    const { words, start } = await socketServer(folder);
    const server = await start();
    const mounted = await mount(folder, words, ['--reconnect=0']);
    server.child.kill('SIGKILL');
    await mounted.says(/fail with EIO until it is back/);
    await expect(run('head', '-c', '100', mounted.file)).rejects.toThrow('Input/output error');
    await start();
    await mounted.says(/reconnected/);
    expect((await run('head', '-c', '100', mounted.file)).length).toBe(100);
  });

  it('reports the status and the last output of a child, and fails reads', async () => {
    const folder = await createFolder();
    const mounted = await mount(folder, ['[', 'nbdkit', '-f', 'memory', '16M', ']']);
    const child = (await run('ps', '--ppid', String(mounted.child.pid), '-o', 'pid=,comm='))
      .trim()
      .split('\n');
    const pid = Number.parseInt(child.find((line) => line.includes('nbdkit')) ?? '', 10);
    process.kill(pid, 'SIGKILL');
    await mounted.says(/dir\/nbd: the server is lost: nbdkit was killed by SIGKILL; .*EIO from now on\n/);
    await expect(run('head', '-c', '100', mounted.file)).rejects.toThrow('Input/output error');
    await run('umount', join(folder, 'dir'));
    expect(await mounted.ended).toBe(1);
  });

  it('starts the server again with --restart', async () => {
    const folder = await createFolder();
    const mounted = await mount(folder, ['[', 'nbdkit', '-f', 'memory', '16M', ']'], ['--restart']);
    const children = (await run('ps', '--ppid', String(mounted.child.pid), '-o', 'pid=,comm='))
      .trim()
      .split('\n');
    process.kill(Number.parseInt(children.find((line) => line.includes('nbdkit')) ?? '', 10), 'SIGKILL');
    await mounted.says(/reconnected/);
    expect((await run('head', '-c', '100', mounted.file)).length).toBe(100);
    mounted.child.kill('SIGTERM');
    expect(await mounted.ended).toBe(0);
  });

  it('ends at a second signal although the server hangs, and reports unwritten data', async () => {
    const folder = await createFolder();
    const { words, start } = await socketServer(folder);
    const server = await start();
    const mounted = await mount(folder, words, ['-C', '1', '--cache=none']);
    server.child.kill('SIGSTOP');
    const writer = new Running('dd', [
      'if=/dev/zero',
      `of=${mounted.file}`,
      'bs=64k',
      'count=1',
      'conv=notrunc',
    ]);
    await untilWaiting(writer.child);
    mounted.child.kill('SIGTERM');
    await new Promise((next) => setImmediate(next));
    mounted.child.kill('SIGINT');
    expect(await mounted.ended).toBe(1);
    expect(mounted.errors).toMatch(
      /65536 bytes are not on the server's disk \(timeout\): offset 0 length 65536/,
    );
  });
});

describe('stale mount', () => {
  it('of a killed nbdfuse is removed by the next start, which reports that', async () => {
    const folder = await createFolder();
    const words = ['[', 'nbdkit', 'memory', '16M', ']'];
    const first = await mount(folder, words);
    first.child.kill('SIGKILL');
    await first.ended;
    await rm(first.pidfile);
    await expect(stat(first.file)).rejects.toThrow('ENOTCONN');
    const second = await mount(folder, words);
    expect(second.errors).toMatch(/^nbdfuse: .*dir: removed the stale mount that an earlier nbdfuse/);
    expect((await stat(second.file)).size).toBe(16 * 1024 * 1024);
    second.child.kill('SIGTERM');
    expect(await second.ended).toBe(0);
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
    const folder = await createFolder();
    const running = new Running(NBDFUSE, [join(folder, 'dir'), ...words]);
    expect(await running.ended).toBe(1);
    expect(running.errors).toMatch(message);
    expect(
      running.errors
        .trimEnd()
        .split('\n')
        .filter((line) => line.startsWith('nbdfuse:')),
    ).toHaveLength(1);
    expect(await run('mount')).not.toContain(folder);
  });

  it('because of the command line has status 1', async () => {
    const running = new Running(NBDFUSE, ['-C', '0', 'dir', 'nbd://localhost']);
    expect(await running.ended).toBe(1);
    expect(running.errors).toBe('nbdfuse: --connections 0: must be a whole number from 1 to 1024\n');
  });

  it('because of the pidfile unmounts', async () => {
    const folder = await createFolder();
    const pidfile = join(folder, 'missing', 'pid');
    const running = new Running(NBDFUSE, [
      '-P',
      pidfile,
      join(folder, 'dir'),
      '[',
      'nbdkit',
      'memory',
      '1M',
      ']',
    ]);
    expect(await running.ended).toBe(1);
    expect(running.errors).toMatch(/^nbdfuse: cannot write the pidfile: ENOENT/);
    expect(await run('mount')).not.toContain(folder);
  });

  it('because of a signal reports that', async () => {
    const folder = await createFolder();
    const running = new Running(NBDFUSE, [
      join(folder, 'dir'),
      '--command',
      'sh',
      '-c',
      'echo started >&2; sleep 60',
    ]);
    await running.says(/started/);
    running.child.kill('SIGTERM');
    expect(await running.ended).toBe(1);
    expect(running.errors).toBe('started\nnbdfuse: stopped by SIGTERM before the mount was ready\n');
  });
});

describe('information options', () => {
  it.each([['--help'], ['--version'], ['--long-options'], ['--short-options'], ['--fuse-help']])(
    'print to standard output with status 0: %s',
    async (word) => {
      expect((await run(NBDFUSE, word)).length).toBeGreaterThan(10);
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
    const text = await run('sh', '-c', `'${NBDFUSE}' --help | head -n 1`);
    expect(text).toBe('Show an NBD export or a disk image as one raw file.\n');
  });
});
