import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { closeDescriptor } from '../../../src/linux/socket.js';
import type { NegotiatedConnection } from '../../../src/transport/connection.js';
import { type NbdServer, openServer } from '../../../src/transport/server.js';
import type { Endpoint, Target } from '../../../src/transport/target.js';
import { scratchFolder } from '../../support/cleanup.js';

/** Opens a server, drops its standard error, and closes it after the test. */
async function open(target: Target, exportName = '', onStderr = (_: Buffer) => {}): Promise<NbdServer> {
  const endpoint: Endpoint = { target, exportName };
  const server = await openServer(endpoint, { onStderr });
  onTestFinished(() => server.close());
  return server;
}

/** Connects, and closes the connection after the test if nobody has taken it. */
async function connected(server: NbdServer): Promise<NegotiatedConnection> {
  const connection = await server.connect();
  onTestFinished(() => connection.close());
  return connection;
}

/** Whether a process of this number exists and is not a zombie. */
function isRunning(pid: number): boolean {
  try {
    const state = execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' });
    return !state.trim().startsWith('Z');
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { timeout: 20_000, interval: 10 });
}

const command = (...argv: string[]): Target => ({ kind: 'command', argv });
const activated = (...argv: string[]): Target => ({ kind: 'socket-activation', argv });

function script(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe('server on standard input and output', () => {
  test('provides one connection, and ends with it', async () => {
    const server = await open(command('nbdkit', '-s', 'memory', '3M'));
    const connection = await server.connect();
    expect(connection.info.size).toBe(3n * 1024n * 1024n);
    expect(server.singleConnection).toBe(true);
    await expect(server.connect()).rejects.toThrow('one connection only');
    connection.close();
    expect(await server.exited).toMatchObject({ status: 0 });
  });

  test('provides another connection after a restart', async () => {
    const server = await open(command('nbdkit', '-s', 'memory', '1M'));
    (await server.connect()).close();
    await server.restart();
    expect((await connected(server)).info.size).toBe(1_048_576n);
  });

  test('gets its arguments and environment untouched by any shell', async () => {
    const folder = scratchFolder();
    const seen = join(folder, 'seen');
    const path = script(folder, 'server', `printf '%s\\n' "$@" "\${LISTEN_FDS-none}" >${seen}`);
    const server = await open(command(path, 'a b', '$HOME', '', "it's", '--', '-x'));
    await server.exited;
    expect(readFileSync(seen, 'utf8')).toBe("a b\n$HOME\n\nit's\n--\n-x\nnone\n");
  });

  test('has no descriptors but its standard ones', async () => {
    const folder = scratchFolder();
    const server = await open(command(script(folder, 'server', `ls /proc/$$/fd >${folder}/seen`)));
    await server.exited;
    const seen = readFileSync(join(folder, 'seen'), 'utf8').trim().split('\n');
    // The shell holds the script itself open as a higher one.
    expect(seen.filter((fd) => Number(fd) < 10)).toEqual(['0', '1', '2']);
  });
});

describe('server with socket activation', () => {
  test('finds its own number in LISTEN_PID and the socket as descriptor 3', async () => {
    const folder = scratchFolder();
    const path = script(
      folder,
      'server',
      `echo "$$ $LISTEN_PID $LISTEN_FDS" >${folder}/seen; exec nbdkit memory 1M`,
    );
    const server = await open(activated(path));
    expect((await connected(server)).info.size).toBe(1_048_576n);
    const [own, listen, count] = readFileSync(join(folder, 'seen'), 'utf8').trim().split(' ');
    expect(listen).toBe(own);
    expect(count).toBe('1');
  });

  test('serves several connections', async () => {
    const server = await open(activated('nbdkit', 'memory', '1M'));
    const connections = await Promise.all([1, 2, 3].map(() => server.connect()));
    expect(connections.map(({ info }) => info.size)).toEqual([1_048_576n, 1_048_576n, 1_048_576n]);
    for (const connection of connections) connection.close();
  });

  test('has its socket in a directory of mode 0700, and closing removes it', async () => {
    const folder = scratchFolder();
    vi.stubEnv('TMPDIR', folder);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const server = await open(activated('nbdkit', '-f', '-P', join(folder, 'pid'), 'memory', '1M'));
    (await server.connect()).close();
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    const [name] = readdirSync(folder).filter((entry) => entry.startsWith('nbdfuse-'));
    expect(statSync(join(folder, name)).mode & 0o777).toBe(0o700);
    await server.close();
    expect(readdirSync(folder).filter((entry) => entry.startsWith('nbdfuse-'))).toEqual([]);
    expect(isRunning(pid)).toBe(false);
  });

  test('comes back after a restart', async () => {
    const server = await open(activated('nbdkit', 'memory', '1M'));
    (await server.connect()).close();
    await server.restart();
    expect((await connected(server)).info.size).toBe(1_048_576n);
  });

  test('ends with the processes that it started', async () => {
    const folder = scratchFolder();
    const path = script(folder, 'server', `sleep 1000 & echo $! >${folder}/pid; exec nbdkit memory 1M`);
    const server = await open(activated(path));
    (await server.connect()).close();
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    await server.close();
    await until(() => !isRunning(pid));
  });
});

describe('failed child', () => {
  test.each([
    ['no-such-program', 'cannot start no-such-program: no such program in PATH; is it installed?'],
    ['/no/such/program', 'cannot start /no/such/program: no such program'],
    ['/etc/passwd', 'cannot start /etc/passwd: permission denied'],
    ['/etc', 'cannot start /etc: it is not a program'],
    ['', 'cannot start a server: no program is named'],
  ])('%j: %s', async (program, message) => {
    await expect(open(command(program))).rejects.toThrow(message);
    await expect(open(activated(program))).rejects.toThrow(message);
  });

  test.each([command, activated])(
    'the error has its exit status and last lines, and its output is forwarded',
    async (mode) => {
      const path = script(
        scratchFolder(),
        'server',
        'echo first line >&2; printf "last \\033[31mline" >&2; exit 7',
      );
      let heard = '';
      const server = await open(mode(path), '', (chunk) => {
        heard += chunk.toString();
      });
      await expect(server.connect()).rejects.toThrow(
        `${path} exited with status 7: first line / last \\x1b[31mline`,
      );
      expect(heard).toBe('first line\nlast \x1b[31mline');
    },
  );

  test('the error names the signal that ended it', async () => {
    const server = await open(command('sh', '-c', 'kill -9 $$'));
    await expect(server.connect()).rejects.toThrow('sh was killed by SIGKILL');
  });

  test('an unknown export fails with the names of the exports', async () => {
    const server = await open(activated('qemu-nbd', '-r', '-f', 'raw', '-x', 'good', '/etc/passwd'), 'bad');
    await expect(server.connect()).rejects.toThrow(
      /export "bad": the server has no such export .*; the server has "good"$/,
    );
  });

  test('connecting can be aborted while the server is silent', async () => {
    const stop = new AbortController();
    const server = await open(command('sleep', '1000'));
    const connecting = server.connect({ signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
  });
});

describe('nbd+ssh', () => {
  test('runs ssh for every connection and talks through it', async () => {
    const folder = scratchFolder();
    script(folder, 'ssh', `echo "$*" >>${folder}/seen; exec nbdkit -s memory 2M`);
    vi.stubEnv('PATH', `${folder}:${process.env.PATH}`);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const server = await open({ kind: 'ssh', host: 'there', user: 'me', remote: { socket: '/a b' } });
    const connections = [await server.connect(), await server.connect()];
    expect(connections.map(({ info }) => info.size)).toEqual([2_097_152n, 2_097_152n]);
    const line = "-o BatchMode=yes -l me -- there nc -U '/a b'\n";
    expect(readFileSync(join(folder, 'seen'), 'utf8')).toBe(line + line);
    for (const connection of connections) connection.close();
  });

  test('reports the message of ssh when it fails', async () => {
    const folder = scratchFolder();
    script(folder, 'ssh', 'echo "ssh: Could not resolve hostname there" >&2; exit 255');
    vi.stubEnv('PATH', `${folder}:${process.env.PATH}`);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const server = await open({ kind: 'ssh', host: 'there', remote: { port: 10809 } });
    await expect(server.connect()).rejects.toThrow(
      'ssh exited with status 255: ssh: Could not resolve hostname there',
    );
  });
});

describe('descriptor that is taken over', () => {
  test('stays connected when the connection is dropped', async () => {
    const server = await open(command('nbdkit', '-s', 'memory', '1M'));
    const connection = await server.connect();
    const fd = connection.takeDescriptor();
    expect(() => connection.takeDescriptor()).toThrow('taken already');
    connection.close();
    closeDescriptor(fd);
    expect(await server.exited).toMatchObject({ status: 0 });
  });
});

describe('SIGKILL of this process', () => {
  function compile(folder: string): void {
    const root = resolve(import.meta.dirname, '../../..');
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const args = [
      '--module',
      'nodenext',
      '--target',
      'es2023',
      '--types',
      'node',
      '--skipLibCheck',
      '--ignoreConfig',
    ];
    const tsc = join(root, 'node_modules/.bin/tsc');
    execFileSync(
      tsc,
      [...args, '--rootDir', join(root, 'src'), '--outDir', folder, join(root, 'src/index.ts')],
      {
        stdio: 'inherit',
      },
    );
  }

  test('ends the server and removes its socket directory', async () => {
    const folder = scratchFolder();
    compile(folder);
    const code = `import { NbdClient } from './index.js';
      await NbdClient.connect({ socketActivation: ['nbdkit', '-f', '-P', '${folder}/pid', 'memory', '1M'] });
      console.log('ready'); setInterval(() => {}, 1000);`;
    writeFileSync(join(folder, 'main.js'), code);
    const program = spawn(process.execPath, [join(folder, 'main.js')], {
      env: { ...process.env, TMPDIR: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => {
      program.kill('SIGKILL');
    });
    await once(program.stdout, 'data');
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    expect(isRunning(pid)).toBe(true);
    program.kill('SIGKILL');
    await until(() => !isRunning(pid));
    await until(() => readdirSync(folder).every((name) => !name.startsWith('nbdfuse-')));
    expect(existsSync(join(folder, 'main.js'))).toBe(true);
  });
});
