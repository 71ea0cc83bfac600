// What the tests of transports and clients share: scratch folders, servers that are ready, certificates.
//
// Everything registers its clean-up before it acts.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { connectSocket } from '../../../src/transport/tcp.js';

/** A folder that goes when the test ends. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'transport-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts a server that stays in the foreground; it is ended and reaped after the test. */
export function startProcess(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
  const child = spawn(argv[0], argv.slice(1), { stdio: 'ignore', env });
  const gone = once(child, 'exit');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  return child;
}

/** Waits until something accepts connections on a socket, by trying. */
export async function untilListening(path: string): Promise<void> {
  const limit = AbortSignal.timeout(20_000);
  for (;;) {
    try {
      (await connectSocket({ path }, limit)).destroy();
      return;
    } catch (error) {
      limit.throwIfAborted();
      await new Promise((resolve) => setImmediate(resolve, error));
    }
  }
}

/** Waits until something accepts connections on a port of this machine, by trying. */
export async function untilPortListens(port: number): Promise<void> {
  const limit = AbortSignal.timeout(20_000);
  for (;;) {
    try {
      (await connectSocket({ host: '127.0.0.1', port }, limit)).destroy();
      return;
    } catch (error) {
      limit.throwIfAborted();
      await new Promise((resolve) => setImmediate(resolve, error));
    }
  }
}

/** nbdkit in the foreground on a socket in `folder`, ready. Returns the socket's path. */
export async function startNbdkit(folder: string, args: readonly string[], name = 'sock'): Promise<string> {
  const path = join(folder, name);
  startProcess(['nbdkit', '-f', '-U', path, ...args]);
  await untilListening(path);
  return path;
}

/** A port of 127.0.0.1 that was free a moment ago, for servers that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}

/** A server in this process that does what `serve` says with each connection. Returns its path. */
export async function scriptedServer(folder: string, serve: (socket: Socket) => void): Promise<string> {
  const path = join(folder, 'scripted');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  });
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  server.listen(path);
  await once(server, 'listening');
  return path;
}

interface CertificateOptions {
  readonly cn: string;
  readonly host?: string;
  readonly lines?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

function makeKey(path: string): void {
  execFileSync('certtool', ['--generate-privkey', '--key-type=ecdsa', '--outfile', path], {
    stdio: 'ignore',
  });
}

/** Makes an authority: ca-cert.pem and ca-key.pem in `folder`. */
export function makeAuthority(folder: string): void {
  mkdirSync(folder, { recursive: true });
  makeKey(join(folder, 'ca-key.pem'));
  writeFileSync(join(folder, 'ca.info'), 'cn = "test authority"\nca\ncert_signing_key\ncrl_signing_key\n');
  execFileSync(
    'certtool',
    [
      '--generate-self-signed',
      '--load-privkey',
      join(folder, 'ca-key.pem'),
      '--template',
      join(folder, 'ca.info'),
    ].concat(['--outfile', join(folder, 'ca-cert.pem')]),
    { stdio: 'ignore' },
  );
}

/** Makes `<kind>-cert.pem` and `<kind>-key.pem` in `folder`, signed by the authority in `authority`. */
export function makeCertificate(
  folder: string,
  kind: 'server' | 'client',
  authority: string,
  { cn, host, lines = [] }: CertificateOptions,
): void {
  mkdirSync(folder, { recursive: true });
  const template = join(folder, `${kind}.info`);
  const names = host === undefined ? [] : [`dns_name = "${host}"`];
  const usage = kind === 'server' ? 'tls_www_server' : 'tls_www_client';
  writeFileSync(template, [`cn = "${cn}"`, ...names, usage, 'signing_key', ...lines, ''].join('\n'));
  makeKey(join(folder, `${kind}-key.pem`));
  const args = [
    '--generate-certificate',
    '--load-privkey',
    join(folder, `${kind}-key.pem`),
    '--template',
    template,
  ];
  args.push('--load-ca-certificate', join(authority, 'ca-cert.pem'));
  args.push('--load-ca-privkey', join(authority, 'ca-key.pem'));
  execFileSync('certtool', [...args, '--outfile', join(folder, `${kind}-cert.pem`)], { stdio: 'ignore' });
}

/** Makes a folder that trusts `authority` but for the server in `revoked`: ca-cert.pem and ca-crl.pem. */
export function makeRevocation(folder: string, authority: string, revoked: string): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'crl.info'), 'crl_next_update = 30\ncrl_number = 1\n');
  copyFileSync(join(authority, 'ca-cert.pem'), join(folder, 'ca-cert.pem'));
  const args = ['--generate-crl', '--load-certificate', join(revoked, 'server-cert.pem')];
  args.push('--load-ca-certificate', join(authority, 'ca-cert.pem'));
  args.push('--load-ca-privkey', join(authority, 'ca-key.pem'), '--template', join(folder, 'crl.info'));
  execFileSync('certtool', [...args, '--outfile', join(folder, 'ca-crl.pem')], { stdio: 'ignore' });
  return folder;
}

/** An authority with a server certificate for localhost and a client certificate, all in one folder. */
export function makePki(
  folder: string,
  server: CertificateOptions = { cn: 'localhost', host: 'localhost' },
): string {
  makeAuthority(folder);
  makeCertificate(folder, 'server', folder, server);
  makeCertificate(folder, 'client', folder, { cn: 'client' });
  return folder;
}

/** Whether a process of this number is there and not a zombie. */
export function isRunning(pid: number): boolean {
  try {
    const state = execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' });
    return !state.trim().startsWith('Z');
  } catch {
    return false;
  }
}
