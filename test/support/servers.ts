// Real NBD servers on Unix sockets below a scope's folder.
//
// Used by tests on real servers. A server is ready when its pidfile is not empty; it ends with its scope.

import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Scope } from './cleanup.js';
import { Program } from './program.js';
import { until } from './until.js';

/** A server that listens. */
export interface RealServer {
  readonly program: Program;
  readonly socket: string;
  /** `nbd+unix:///NAME?socket=…` */
  uri(exportName?: string): string;
}

type Words = (files: { socket: string; pidfile: string }) => readonly string[];

async function startServer(scope: Scope, name: string, command: string, words: Words): Promise<RealServer> {
  const folder = scope.path(name);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const files = { socket: `${folder}/socket`, pidfile: `${folder}/pid` };
  // A server that was killed leaves both behind.
  rmSync(files.socket, { force: true });
  rmSync(files.pidfile, { force: true });
  const program = new Program(scope, command, words(files));
  await program.fills(files.pidfile);
  return { program, socket: files.socket, uri: (exportName = '') => unixUri(files.socket, exportName) };
}

function unixUri(socket: string, exportName: string): string {
  return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${encodeURIComponent(socket)}`;
}

/** nbdkit with a plugin, filters and their arguments. */
export function startNbdkit(scope: Scope, ...args: readonly string[]): Promise<RealServer> {
  return startServer(scope, 'nbdkit', 'nbdkit', ({ socket, pidfile }) => {
    return ['-f', '-U', socket, '-P', pidfile, ...args];
  });
}

/** nbdkit on a port of AF_VSOCK, where the kernel can reach itself by that. */
export async function startVsockNbdkit(
  scope: Scope,
  port: number,
  ...args: readonly string[]
): Promise<Program> {
  const words = ['-f', '--vsock', '--port', String(port), ...args];
  return (await startServer(scope, 'nbdkit', 'nbdkit', ({ pidfile }) => ['-P', pidfile, ...words])).program;
}

/** qemu-nbd, for up to 16 clients at once, one after another. */
export function startQemuNbd(scope: Scope, ...args: readonly string[]): Promise<RealServer> {
  return startServer(scope, 'qemu-nbd', 'qemu-nbd', ({ socket, pidfile }) => {
    return ['--persistent', '--shared=16', `--socket=${socket}`, `--pid-file=${pidfile}`, ...args];
  });
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
  return { socket, uri: (exportName = '') => unixUri(socket, exportName) };
}

/** nbd-server with lines of its own in [generic]; it may not listen yet. */
export async function configureNbdServer(
  scope: Scope,
  file: string,
  generic: readonly string[],
  settings: readonly string[],
): Promise<void> {
  const [pidfile, config] = ['nbd.pid', 'nbd.config'].map((name) => scope.path(name));
  const lines = ['[generic]', 'allowlist = true', ...generic, '[disk]', `exportname = ${file}`, ...settings];
  writeFileSync(config, [...lines, ''].join('\n'));
  // It always goes into the background, so it is ended by its number.
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
  return startServer(scope, 'qemu-storage-daemon', 'qemu-storage-daemon', ({ socket, pidfile }) => {
    const blockdevs = [
      `driver=file,node-name=file,filename=${file},discard=unmap`,
      'driver=qcow2,node-name=disk,file=file,discard=unmap',
    ];
    return [
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
