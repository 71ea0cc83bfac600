// Real NBD servers: their command lines, their URIs, and starting them.
//
// For tests and tools. A server is ready when its pidfile is not empty; it ends with its scope. Unless it says
// otherwise, a function starts one on a Unix socket below the scope's folder.

import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { Program } from './program.js';
import type { Scope } from './scope.js';
import { until } from './until.js';

/** The address of a server. */
export type Listening = { readonly path: string } | { readonly host: string; readonly port: number };

/** A server that listens. */
export interface RealServer {
  readonly program: Program;
  readonly socket: string;
  /** `nbd+unix:///NAME?socket=…` */
  uri(exportName?: string): string;
}

/** The command line of an nbdkit in the foreground. @param args filters, plugin and their arguments */
export function nbdkitCommand(on: Listening, pidfile: string, args: readonly string[]): string[] {
  const where = 'path' in on ? ['-U', on.path] : ['-i', on.host, '-p', String(on.port)];
  return ['nbdkit', '-f', '-P', pidfile, ...where, ...args];
}

/** The command line of a qemu-nbd for up to 32 clients at once, and one after another. @param args about the disk */
export function qemuNbdCommand(on: Listening, pidfile: string, args: readonly string[]): string[] {
  const where = 'path' in on ? [`--socket=${on.path}`] : [`--bind=${on.host}`, `--port=${on.port}`];
  return ['qemu-nbd', '--persistent', '--shared=32', `--pid-file=${pidfile}`, ...where, ...args];
}

/** nbdkit's words for TLS with the certificates in a folder. */
export const nbdkitTls = (pki: string): string[] => ['--tls=require', `--tls-certificates=${pki}`];

/** qemu-nbd's words for TLS. @param more settings of the credentials, as `verify-peer=no` */
export function qemuNbdTls(pki: string, ...more: readonly string[]): string[] {
  const settings = ['tls-creds-x509', 'id=tls0', 'endpoint=server', `dir=${pki}`, ...more];
  return [`--object=${settings.join(',')}`, '--tls-creds=tls0'];
}

/** The URI of an export of the server that listens there. @param pki certificates for localhost: with TLS */
export function uriOf(on: Listening, exportName = '', pki?: string): string {
  const query: string[] = [];
  if ('path' in on) query.push(`socket=${encodeURIComponent(on.path)}`);
  if (pki !== undefined) query.push(`tls-certificates=${pki}`);
  if (pki !== undefined && !('host' in on && on.host === 'localhost')) query.push('tls-hostname=localhost');
  const scheme = `${pki === undefined ? 'nbd' : 'nbds'}${'path' in on ? '+unix' : ''}`;
  const authority = 'path' in on ? '' : `${on.host}:${on.port}`;
  const rest = query.length === 0 ? '' : `?${query.join('&')}`;
  return `${scheme}://${authority}/${encodeURIComponent(exportName)}${rest}`;
}

type Command = (socket: string, pidfile: string) => readonly string[];

async function startServer(scope: Scope, name: string, command: Command): Promise<RealServer> {
  const folder = scope.path(name);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const [socket, pidfile] = [`${folder}/socket`, `${folder}/pid`];
  // A server that was killed leaves both behind.
  rmSync(socket, { force: true });
  rmSync(pidfile, { force: true });
  const [file, ...args] = command(socket, pidfile);
  const program = new Program(scope, file, args);
  await program.fills(pidfile);
  return { program, socket, uri: (exportName) => uriOf({ path: socket }, exportName) };
}

/** nbdkit with a plugin, filters and their arguments. */
export function startNbdkit(scope: Scope, ...args: readonly string[]): Promise<RealServer> {
  return startServer(scope, 'nbdkit', (path, pidfile) => nbdkitCommand({ path }, pidfile, args));
}

/** A server on a port of 127.0.0.1. */
export type TcpServer = Pick<RealServer, 'program' | 'uri'>;

type TcpCommand = (on: Listening, pidfile: string, args: readonly string[]) => string[];

/** Makes a function that starts a server on a port of 127.0.0.1. @param ready waits for what its pidfile does not tell */
const tcpStarter =
  (name: string, command: TcpCommand, ready?: (on: Listening) => Promise<void>) =>
  async (scope: Scope, port: number, ...args: readonly string[]): Promise<TcpServer> => {
    const on = { host: '127.0.0.1', port };
    const { program } = await startServer(scope, name, (_, pidfile) => command(on, pidfile, args));
    await ready?.(on);
    return { program, uri: (exportName) => uriOf(on, exportName) };
  };

/** nbdkit on a port of 127.0.0.1, with a plugin, filters and their arguments. */
export const startTcpNbdkit = tcpStarter('nbdkit', nbdkitCommand);

/** Waits until qemu-nbd greets: it forgets a signal that comes between its pidfile and its main loop. */
async function greets(on: Listening): Promise<void> {
  const socket = connect('path' in on ? { path: on.path } : on);
  try {
    await once(socket, 'data');
  } finally {
    socket.destroy();
  }
}

/** qemu-nbd on a port of 127.0.0.1, with arguments about the disk. */
export const startTcpQemuNbd = tcpStarter('qemu-nbd', qemuNbdCommand, greets);

/** nbdkit on a port of AF_VSOCK, where the kernel can reach itself by that. */
export async function startVsockNbdkit(
  scope: Scope,
  port: number,
  ...args: readonly string[]
): Promise<Program> {
  const words = ['nbdkit', '-f', '--vsock', '--port', String(port), ...args];
  return (await startServer(scope, 'nbdkit', (_, pidfile) => [...words, '-P', pidfile])).program;
}

/** qemu-nbd. @param args about the disk */
export async function startQemuNbd(scope: Scope, ...args: readonly string[]): Promise<RealServer> {
  const server = await startServer(scope, 'qemu-nbd', (path, pidfile) =>
    qemuNbdCommand({ path }, pidfile, args),
  );
  await greets({ path: server.socket });
  return server;
}

/** nbd-server with one export of a raw file, called `disk`; `settings` are lines of its section. */
export async function startNbdServer(
  scope: Scope,
  file: string,
  ...settings: readonly string[]
): Promise<Pick<RealServer, 'socket' | 'uri'>> {
  const socket = scope.path('nbd.socket');
  await configureNbdServer(scope, file, [`unixsock = ${socket}`], settings);
  await until('nbd-server to listen', () => existsSync(socket));
  return { socket, uri: (exportName) => uriOf({ path: socket }, exportName) };
}

/** nbd-server with these lines in [generic]; it may not listen yet. */
export async function configureNbdServer(
  scope: Scope,
  file: string,
  generic: readonly string[],
  settings: readonly string[],
): Promise<void> {
  const [pidfile, config] = ['nbd.pid', 'nbd.config'].map((name) => scope.path(name));
  const lines = ['[generic]', 'allowlist = true', ...generic, '[disk]', `exportname = ${file}`, ...settings];
  writeFileSync(config, [...lines, ''].join('\n'));
  // It always goes into the background, so the scope ends it by its process number.
  scope.add(() => {
    process.kill(Number(readFileSync(pidfile, 'utf8')), 'SIGTERM');
  });
  const launcher = new Program(scope, 'nbd-server', ['-C', config, '-p', pidfile]);
  await until('nbd-server to start', () => existsSync(pidfile) && statSync(pidfile).size > 0);
  await launcher.ended;
}

/** qemu-storage-daemon with one writable export, called `disk`, of a qcow2 file; `settings` are the export's. */
export function startStorageDaemon(
  scope: Scope,
  file: string,
  ...settings: readonly string[]
): Promise<RealServer> {
  return startServer(scope, 'qemu-storage-daemon', (socket, pidfile) => {
    const blockdevs = [
      `driver=file,node-name=file,filename=${file},discard=unmap`,
      'driver=qcow2,node-name=disk,file=file,discard=unmap',
    ];
    return [
      'qemu-storage-daemon',
      ...blockdevs.flatMap((text) => ['--blockdev', text]),
      '--nbd-server',
      `addr.type=unix,addr.path=${socket},max-connections=0`,
      '--export',
      ['type=nbd,id=export,node-name=disk,name=disk,writable=on', ...settings].join(','),
      '--pidfile',
      pidfile,
    ];
  });
}
