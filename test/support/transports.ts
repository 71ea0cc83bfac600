// Every packaged server over every transport that it supports, with a raw file of 4 MiB.
//
// Used by test/system/real/transports.test.ts. A row starts its server and returns its names for nbdfuse and
// for the library; the scope's end ends it.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import type { ServerAddress } from '../../src/index.js';
import { CuttingProxy } from './run/cutting-proxy.js';
import type { MountRequest } from './run/mount.js';
import { freePort, untilListening } from './run/ports.js';
import { Program } from './run/program.js';
import type { Scope } from './run/scope.js';
import {
  configureNbdServer,
  nbdkitTls,
  qemuNbdTls,
  startNbdkit,
  startNbdServer,
  startQemuNbd,
  startTcpNbdkit,
  startTcpQemuNbd,
  uriOf,
} from './run/servers.js';

/** The names of a server. */
export interface Named {
  readonly mount: Pick<MountRequest, 'server' | 'program' | 'options'>;
  /** A fresh address for each client. */
  library(): Promise<ServerAddress>;
  /** The arguments after `--list`; undefined if that cannot list the exports. */
  readonly list: readonly string[] | undefined;
  /** The name of the export there. */
  readonly exportName: string;
  readonly readOnly?: boolean;
}

type Row = (scope: Scope, file: string, pki: string) => Promise<Named>;

const byUri = (uri: string, exportName: string): Named => ({
  mount: { server: [uri] },
  library: async () => uri,
  list: [uri],
  exportName,
});

const byWords = (option: string, argv: readonly string[], exportName: string): Named => ({
  mount: { server: [option, ...argv], options: exportName === '' ? [] : ['--export', exportName] },
  library: async () => (option === '--command' ? { command: argv } : { socketActivation: argv }),
  list: [option, ...argv],
  exportName,
});

const onLocalhost = (port: number) => ({ host: 'localhost', port });

const QEMU = ['--format=raw', '--export-name=disk'];

const daemonWords = (file: string, server: string, ...more: readonly string[]): string[] => [
  ...more,
  '--blockdev',
  `driver=file,node-name=disk,filename=${file}`,
  '--nbd-server',
  server,
  '--export',
  'type=nbd,id=export,node-name=disk,name=disk,writable=on',
];

async function startDaemon(scope: Scope, file: string, server: string, ...more: readonly string[]) {
  const pidfile = scope.path('daemon.pid');
  const words = [...daemonWords(file, server, ...more), '--pidfile', pidfile];
  await new Program(scope, 'qemu-storage-daemon', words).fills(pidfile);
}

const daemonTls = (pki: string): string[] => [
  '--object',
  `tls-creds-x509,id=tls0,endpoint=server,dir=${pki}`,
];
const inet = (port: number): string => `addr.type=inet,addr.host=127.0.0.1,addr.port=${port}`;

/** nbd-server on TCP, which always goes into the background. */
async function nbdServerTcp(scope: Scope, file: string, ...generic: readonly string[]): Promise<number> {
  const port = await freePort();
  const settings = ['listenaddr = 127.0.0.1', `port = ${port}`, ...generic];
  await configureNbdServer(scope, file, settings, ['flush = true']);
  await untilListening({ host: '127.0.0.1', port });
  return port;
}

/** A connected socket of this process. */
async function connected(scope: Scope, path: string) {
  const socket = createConnection(path);
  scope.add(() => socket.destroy());
  // Paused before it is connected, so that not a byte is read here.
  socket.pause();
  await once(socket, 'connect');
  return socket;
}

export const TRANSPORTS: Readonly<Record<string, Row>> = {
  'nbdkit over TCP': async (scope, file) =>
    byUri((await startTcpNbdkit(scope, await freePort(), 'file', file)).uri(), ''),
  'nbdkit over a Unix socket': async (scope, file) =>
    byUri((await startNbdkit(scope, 'file', file)).uri(), ''),
  'nbdkit over an abstract socket': async (scope, file) => {
    const name = `nbdfuse-test-${process.pid}-${Date.now()}`;
    const { socket } = await startNbdkit(scope, 'file', file);
    await CuttingProxy.open(scope, `\0${name}`, { path: socket });
    return byUri(`nbd+unix:///?socket=%00${name}`, '');
  },
  'nbdkit over TLS over TCP': async (scope, file, pki) => {
    const port = await freePort();
    await startTcpNbdkit(scope, port, ...nbdkitTls(pki), 'file', file);
    return byUri(uriOf(onLocalhost(port), '', pki), '');
  },
  'nbdkit over TLS over a Unix socket': async (scope, file, pki) => {
    const { socket } = await startNbdkit(scope, ...nbdkitTls(pki), 'file', file);
    return byUri(uriOf({ path: socket }, '', pki), '');
  },
  // nbdkit 1.32 advertises FLUSH there and then refuses it, hence read-only.
  'nbdkit --oldstyle over a Unix socket': async (scope, file) => {
    const server = await startNbdkit(scope, '--oldstyle', '--readonly', 'file', file);
    return { ...byUri(server.uri(), ''), readOnly: true };
  },
  'nbdkit on standard input': async (_, file) => byWords('--command', ['nbdkit', '-s', 'file', file], ''),
  'nbdkit by socket activation': async (_, file) =>
    byWords('--socket-activation', ['nbdkit', 'file', file], ''),
  'nbdkit on an inherited descriptor': async (scope, file) => {
    const { socket } = await startNbdkit(scope, 'file', file);
    const near = await connected(scope, socket);
    return {
      mount: { server: ['--fd', '3'], program: { stdio: ['ignore', 'pipe', 'pipe', near] } },
      library: async () => ({ unix: socket }),
      list: undefined,
      exportName: '',
    };
  },
  'qemu-nbd over TCP': async (scope, file) =>
    byUri((await startTcpQemuNbd(scope, await freePort(), ...QEMU, file)).uri('disk'), 'disk'),
  'qemu-nbd over a Unix socket': async (scope, file) =>
    byUri((await startQemuNbd(scope, ...QEMU, file)).uri('disk'), 'disk'),
  'qemu-nbd over TLS over TCP': async (scope, file, pki) => {
    const port = await freePort();
    await startTcpQemuNbd(scope, port, ...qemuNbdTls(pki), ...QEMU, file);
    return byUri(uriOf(onLocalhost(port), 'disk', pki), 'disk');
  },
  'qemu-nbd over TLS over a Unix socket': async (scope, file, pki) => {
    const { socket } = await startQemuNbd(scope, ...qemuNbdTls(pki), ...QEMU, file);
    return byUri(uriOf({ path: socket }, 'disk', pki), 'disk');
  },
  'qemu-nbd by socket activation': async (_, file) =>
    byWords('--socket-activation', ['qemu-nbd', '--persistent', '--shared=16', '--format=raw', file], ''),
  'qemu-storage-daemon over TCP': async (scope, file) => {
    const port = await freePort();
    await startDaemon(scope, file, `${inet(port)},max-connections=0`);
    return byUri(uriOf({ host: '127.0.0.1', port }, 'disk'), 'disk');
  },
  'qemu-storage-daemon over a Unix socket': async (scope, file) => {
    const socket = scope.path('daemon.socket');
    await startDaemon(scope, file, `addr.type=unix,addr.path=${socket},max-connections=0`);
    return byUri(uriOf({ path: socket }, 'disk'), 'disk');
  },
  'qemu-storage-daemon over TLS over TCP': async (scope, file, pki) => {
    const port = await freePort();
    await startDaemon(scope, file, `${inet(port)},tls-creds=tls0,max-connections=0`, ...daemonTls(pki));
    return byUri(uriOf(onLocalhost(port), 'disk', pki), 'disk');
  },
  'qemu-storage-daemon over TLS over a Unix socket': async (scope, file, pki) => {
    const socket = scope.path('daemon.socket');
    const server = `addr.type=unix,addr.path=${socket},tls-creds=tls0,max-connections=0`;
    await startDaemon(scope, file, server, ...daemonTls(pki));
    return byUri(uriOf({ path: socket }, 'disk', pki), 'disk');
  },
  'qemu-storage-daemon on a listening descriptor': async (_, file) => {
    const words = daemonWords(file, 'addr.type=fd,addr.str=3,max-connections=0');
    return byWords('--socket-activation', ['qemu-storage-daemon', ...words], 'disk');
  },
  'nbd-server over TCP': async (scope, file) =>
    byUri(uriOf({ host: '127.0.0.1', port: await nbdServerTcp(scope, file) }, 'disk'), 'disk'),
  'nbd-server over a Unix socket': async (scope, file) =>
    byUri((await startNbdServer(scope, file, 'flush = true')).uri('disk'), 'disk'),
  'nbd-server over TLS over TCP': async (scope, file, pki) => {
    const [certificate, key, authority] = ['server-cert', 'server-key', 'ca-cert'].map(
      (n) => `${pki}/${n}.pem`,
    );
    const tls = [
      `certfile = ${certificate}`,
      `keyfile = ${key}`,
      `cacertfile = ${authority}`,
      'force_tls = true',
    ];
    return byUri(uriOf(onLocalhost(await nbdServerTcp(scope, file, ...tls)), 'disk', pki), 'disk');
  },
  'nbd-server on standard input, as from inetd': async (scope, file) => {
    const config = scope.path('no.config');
    writeFileSync(config, '[generic]\nallowlist = true\n');
    // -d keeps it from going into the background. A list has size 0: it reports the size only to a client
    // that connects, and there is only one connection.
    return { ...byWords('--command', ['nbd-server', '0', file, '-d', '-C', config], ''), list: undefined };
  },
};
