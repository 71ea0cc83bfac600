// --metrics on real mounts: the HTTP server, its limits, and its socket.

import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect, type NetConnectOpts } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { freePort } from '../../support/run/ports.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'dd');

const MEMORY = ['[', 'nbdkit', 'memory', '1M', ']'];
const OPENMETRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8';

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Asks for a path, /metrics by default. */
function ask(
  where: { readonly port: number } | { readonly socketPath: string },
  options: {
    readonly path?: string;
    readonly method?: string;
    readonly headers?: Record<string, string>;
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', path: '/metrics', ...where, ...options }, (response) => {
      buffer(response).then(
        (body) => resolve({ status: response.statusCode, headers: response.headers, body: body.toString() }),
        reject,
      );
    });
    asking.on('error', reject).end();
  });
}

/** A mount that serves metrics at a free port. */
async function mountWithPort(scope: Scope): Promise<MountedDisk & { port: number }> {
  const disk = await mountDisk(scope, { server: MEMORY, options: ['--metrics=0'] });
  const [, port] = /metrics at http:\/\/127\.0\.0\.1:(\d+)\/metrics\n/.exec(disk.stderr) ?? [];
  return Object.assign(disk, { port: Number(port) });
}

/** Starts nbdfuse with an address that cannot be used; returns its standard error. */
async function refusal(scope: Scope, address: string): Promise<string> {
  const directory = scope.path('refused');
  mkdirSync(directory, { recursive: true });
  const program = startNbdfuse(scope, [`--metrics=${address}`, directory, ...MEMORY]);
  expect(await program.ended).toBe(1);
  return program.stderr;
}

/** Sends bytes, and resolves with all that comes until the server ends the connection. */
async function sendRaw(where: NetConnectOpts, text: string): Promise<string> {
  const socket = connect(where);
  socket.on('error', () => undefined);
  socket.write(text);
  return (await buffer(socket).catch(() => Buffer.alloc(0))).toString();
}

describe('--metrics', () => {
  it('serves the figures of the mount, in the format that the client wants', async () => {
    const scope = createScope();
    const disk = await mountWithPort(scope);
    await runProgram('dd', `if=${disk.file}`, 'of=/dev/null', 'bs=4096', 'count=3', 'iflag=direct');
    const wanted = { Accept: 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4,*/*;q=0.1' };
    const { status, headers, body } = await ask(disk, { headers: wanted });
    expect([status, headers['content-type']]).toEqual([200, OPENMETRICS]);
    const labels = `mountpoint="${disk.mountpoint}",file="nbd",export=""`;
    expect(body).toContain(`nbdfuse_request_bytes_total{${labels},operation="read"} 12288\n`);
    expect(body).toContain(`nbdfuse_state{${labels},state="connected"} 1\n`);
    expect(body).toMatch(/\nprocess_resident_memory_bytes \d+\n/);
    expect(body.endsWith('# EOF\n')).toBe(true);
    // As curl asks.
    for (const Accept of ['text/plain;version=0.0.4;q=1,*/*;q=0.1', '*/*']) {
      const old = await ask(disk, { headers: { Accept } });
      expect(old.headers['content-type']).toBe(PROMETHEUS);
      expect(old.body).not.toContain('# EOF');
    }
    // The same names as on the command line.
    const shown = await runProgram('node', NBDFUSE, '--status', '--format=openmetrics', disk.mountpoint);
    const namesIn = (text: string) => new Set(text.match(/^nbdfuse_\w+/gm));
    expect(namesIn(body)).toEqual(namesIn(shown));
    expect(shown).toContain(`nbdfuse_request_bytes_total{${labels},operation="read"} 12288\n`);
    expect(await disk.stop()).toBe(0);
    await expect(ask(disk)).rejects.toThrow('ECONNREFUSED');
  });

  it('answers GET and HEAD of /metrics only', async () => {
    const scope = createScope();
    const disk = await mountWithPort(scope);
    const head = await ask(disk, { method: 'HEAD' });
    expect([head.status, head.body]).toEqual([200, '']);
    expect(Number(head.headers['content-length'])).toBeGreaterThan(1000);
    expect((await ask(disk, { path: '/' })).status).toBe(404);
    expect((await ask(disk, { path: '/metrics/../etc/passwd' })).status).toBe(404);
    expect((await ask(disk, { path: '/metrics?name[]=nbdfuse_up' })).status).toBe(200);
    const posted = await ask(disk, { method: 'POST' });
    expect([posted.status, posted.headers.allow]).toEqual([405, 'GET, HEAD']);
    expect(await sendRaw(disk, 'nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect((await ask(disk)).status).toBe(200);
  });

  it('limits headers, connections and time', async () => {
    const scope = createScope();
    const disk = await mountWithPort(scope);
    const long = `GET /metrics HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`;
    expect(await sendRaw(disk, long)).toMatch(/^HTTP\/1\.1 431 /);
    // Slow requests: they occupy all connections, and end after five seconds. Some more, since others may come first.
    const slow = Array.from({ length: 24 }, () => sendRaw(disk, 'GET /metrics HTTP/1.1\r\n'));
    await until('refused connections', async () => {
      const answer = await ask(disk).catch(() => undefined);
      return answer === undefined;
    });
    for (const text of await Promise.all(slow)) expect(text).toMatch(/^(HTTP\/1\.1 408 |$)/);
    await until('an answer', async () => (await ask(disk).catch(() => undefined))?.status === 200);
    expect(await disk.stop()).toBe(0);
  });

  it('serves at a Unix socket that only its owner may use, and removes it', async () => {
    const scope = createScope();
    const socketPath = scope.path('metrics.sock');
    const disk = await mountDisk(scope, { server: MEMORY, options: [`--metrics=unix:${socketPath}`] });
    expect(disk.stderr).toContain(`metrics at unix:${socketPath}\n`);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    expect((await ask({ socketPath })).body).toContain('nbdfuse_up{');
    expect(await refusal(scope, `unix:${socketPath}`)).toBe(
      `nbdfuse: cannot serve metrics at unix:${socketPath}: another process listens there; name another path\n`,
    );
    expect((await ask({ socketPath })).status).toBe(200);
    expect(await disk.stop()).toBe(0);
    expect(existsSync(socketPath)).toBe(false);
  });

  it('replaces the socket of a killed process, and nothing else', async () => {
    const scope = createScope();
    const socketPath = scope.path('metrics.sock');
    const options = [`--metrics=unix:${socketPath}`];
    const killed = await mountDisk(scope, { server: MEMORY, options });
    await killed.program.kill('SIGKILL');
    await runProgram('fusermount3', '-u', killed.mountpoint);
    expect(existsSync(socketPath)).toBe(true);
    const disk = await mountDisk(scope, { server: MEMORY, options });
    expect((await ask({ socketPath })).status).toBe(200);
    await disk.stop();
    writeFileSync(scope.path('file'), 'precious');
    expect(await refusal(scope, `unix:${scope.path('file')}`)).toContain(
      ': the file exists and is not a socket',
    );
    expect(existsSync(scope.path('file'))).toBe(true);
  });

  it('works in the background, with a relative socket that the mount covers', async () => {
    const scope = createScope();
    mkdirSync(scope.path('mnt'));
    const options = ['--daemon', '--metrics=unix:mnt/metrics.sock', 'mnt', ...MEMORY];
    const program = startNbdfuse(scope, options, { program: { cwd: scope.folder } });
    expect(await program.ended, program.stderr).toBe(0);
    const shown = await runProgram('node', NBDFUSE, '--list-mounts', '--format=openmetrics');
    expect(shown).toContain(`nbdfuse_up{mountpoint="${scope.path('mnt')}"} 1\n`);
    await runProgram('node', NBDFUSE, '--unmount', scope.path('mnt'));
    expect(existsSync(scope.path('mnt', 'metrics.sock'))).toBe(false);
  });

  it('fails before the mount when the address cannot be used', async () => {
    const scope = createScope();
    const disk = await mountWithPort(scope);
    expect(await refusal(scope, String(disk.port))).toBe(
      `nbdfuse: cannot serve metrics at 127.0.0.1:${disk.port}: address already in use; name another port, or 0 for any free one\n`,
    );
    expect(await refusal(scope, `192.0.2.1:${await freePort()}`)).toMatch(
      /^nbdfuse: cannot serve metrics at 192\.0\.2\.1:\d+: cannot assign requested address\n$/,
    );
    expect(await refusal(scope, `unix:${scope.path('none', 'x.sock')}`)).toMatch(
      /^nbdfuse: cannot serve metrics at unix:.*x\.sock: no such file or directory\n$/,
    );
  });

  it('shows no password of the server', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const uri = server.uri().replace('://', '://user:secret@');
    const disk = await mountDisk(scope, { server: [uri], options: ['--metrics=0'] });
    const [, port] = /127\.0\.0\.1:(\d+)\/metrics/.exec(disk.stderr) ?? [];
    const { body } = await ask({ port: Number(port) });
    expect(body).toContain('nbdfuse_file_info{');
    expect(body).not.toContain('secret');
  });

  it('goes on while the server is away', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const options = ['--metrics=0', '-C', '1'];
    const disk = await mountDisk(scope, { server: [server.uri()], options });
    const [, port] = /127\.0\.0\.1:(\d+)\/metrics/.exec(disk.stderr) ?? [];
    await server.program?.kill('SIGKILL');
    await until('the loss', async () =>
      (await ask({ port: Number(port) })).body.includes('state="reconnecting"} 1\n'),
    );
    await disk.stop();
  });
});
