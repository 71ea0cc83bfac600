// The servers that the sides are measured on. Each is started below a folder of its own, on a socket or
// a free port, and ended by processes.ts.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { start, whenWritten } from './processes.js';

/** Where a server listens, and what clients need to know besides. */
export interface Target {
  readonly uri: string;
  readonly environment: Readonly<Record<string, string>>;
  /** A qcow2 image like the one that the server has, for a side that needs no server. */
  readonly image?: string;
}

let count = 0;

/** A TCP port of 127.0.0.1 that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(),
      );
    });
  });
}

/** nbdkit with `words` (plugin and filters) on a Unix socket that anybody may use. */
export async function nbdkit(folder: string, ...words: readonly string[]): Promise<Target> {
  const socket = join(folder, `s${count++}`);
  const child = start(['nbdkit', '-f', '-U', socket, '-P', `${socket}.pid`, ...words]);
  await whenWritten(`${socket}.pid`, child);
  chmodSync(socket, 0o777);
  return { uri: `nbd+unix:///?socket=${socket}`, environment: {} };
}

/** nbdkit on TCP loopback. */
export async function nbdkitTcp(folder: string, ...words: readonly string[]): Promise<Target> {
  const port = await freePort();
  const pidfile = join(folder, `t${count++}.pid`);
  const child = start(['nbdkit', '-f', '-i', '127.0.0.1', '-p', String(port), '-P', pidfile, ...words]);
  await whenWritten(pidfile, child);
  return { uri: `nbd://127.0.0.1:${port}`, environment: {} };
}

/** nbdkit on TCP loopback with TLS; the certificate folder is where clients look by default. */
export async function nbdkitTls(folder: string, ...words: readonly string[]): Promise<Target> {
  const home = join(folder, `home${count++}`);
  const pki = join(home, '.config', 'pki', 'libnbd');
  mkdirSync(pki, { recursive: true });
  makeCertificates(pki);
  const target = await nbdkitTcp(folder, '--tls=require', `--tls-certificates=${pki}`, ...words);
  return {
    uri: target.uri.replace('nbd:', 'nbds:').replace('127.0.0.1', 'localhost'),
    environment: { HOME: home },
  };
}

/** Makes an authority with certificates for localhost, of a server and of a client, in an empty folder. */
export function makeCertificates(folder: string): void {
  execFileSync('bash', ['-c', CERTIFICATES], { cwd: folder, stdio: 'ignore' });
}

const CERTIFICATES = `
certtool --generate-privkey --key-type=ecdsa > ca-key.pem
printf 'cn = bench\\nca\\ncert_signing_key\\n' > ca.info
certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info --outfile ca-cert.pem
for who in server client; do
  certtool --generate-privkey --key-type=ecdsa > $who-key.pem
  printf 'cn = localhost\\ndns_name = localhost\\ntls_www_server\\ntls_www_client\\nsigning_key\\n' > $who.info
  certtool --generate-certificate --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \\
    --load-privkey $who-key.pem --template $who.info --outfile $who-cert.pem
done
chmod a+r *.pem`;

/** All clusters are there from the start: who writes first would pay for all others otherwise. */
function image(folder: string, size: string): string {
  const path = join(folder, `i${count++}.qcow2`);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=full', path, size]);
  return path;
}

/** qemu-nbd serving a fresh qcow2 image of `size`, and a second one beside it. */
export async function qemuNbd(folder: string, size: string): Promise<Target> {
  const served = image(folder, size);
  const socket = `${served}.sock`;
  const pidfile = `${socket}.pid`;
  const child = start([
    'qemu-nbd',
    '-t',
    '-e',
    '32',
    '-k',
    socket,
    `--pid-file=${pidfile}`,
    '-f',
    'qcow2',
    served,
  ]);
  await whenWritten(pidfile, child);
  return { uri: `nbd+unix:///?socket=${socket}`, environment: {}, image: image(folder, size) };
}
