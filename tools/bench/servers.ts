// The servers that the sides are measured on, started by the helpers of the tests.

import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makePki } from '../../test/support/run/certificates.js';
import { createQcow2 } from '../../test/support/run/images.js';
import { freePort } from '../../test/support/run/ports.js';
import type { Scope } from '../../test/support/run/scope.js';
import * as servers from '../../test/support/run/servers.js';

/** Where a server listens, and further facts for clients. */
export interface Target {
  readonly uri: string;
  readonly environment: Readonly<Record<string, string>>;
  /** A qcow2 image like the server's, for a side that needs no server. */
  readonly image?: string;
}

/** nbdkit with `words` (plugin and filters) on a Unix socket that anybody may use. */
export async function nbdkit(scope: Scope, ...words: readonly string[]): Promise<Target> {
  const { socket, uri } = await servers.startNbdkit(scope, ...words);
  chmodSync(socket, 0o777);
  return { uri: uri(), environment: {} };
}

/** nbdkit on TCP loopback. */
export async function nbdkitTcp(scope: Scope, ...words: readonly string[]): Promise<Target> {
  const { uri } = await servers.startTcpNbdkit(scope, await freePort(), ...words);
  return { uri: uri(), environment: {} };
}

/** nbdkit on TCP loopback with TLS; the certificate folder is where clients look by default. */
export async function nbdkitTls(scope: Scope, ...words: readonly string[]): Promise<Target> {
  const home = scope.path('home');
  const pki = makePki(join(home, '.config', 'pki', 'libnbd'));
  // A normal user is a client, too.
  for (const name of readdirSync(pki)) chmodSync(join(pki, name), 0o644);
  const target = await nbdkitTcp(scope, ...servers.nbdkitTls(pki), ...words);
  return {
    uri: target.uri.replace('nbd:', 'nbds:').replace('127.0.0.1', 'localhost'),
    environment: { HOME: home },
  };
}

/** All clusters exist from the start: otherwise the first side would pay for allocation. */
function image(scope: Scope, name: string, size: string): string {
  return createQcow2(scope.path(`${name}.qcow2`), size, '-o', 'preallocation=full');
}

/** qemu-nbd serving a fresh qcow2 image of `size`, and a second one beside it. */
export async function qemuNbd(scope: Scope, size: string): Promise<Target> {
  const { uri } = await servers.startQemuNbd(scope, '--format=qcow2', image(scope, 'served', size));
  return { uri: uri(), environment: {}, image: image(scope, 'beside', size) };
}
