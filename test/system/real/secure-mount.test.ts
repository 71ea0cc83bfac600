// Mounting over TCP, IPv6 and TLS.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { makePki } from '../../support/run/certificates.js';
import { createPsk } from '../../support/run/images.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { freePort } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'certtool', 'psktool');

async function serve(scope: Scope, address: string, ...words: readonly string[]): Promise<number> {
  const port = await freePort();
  const pidfile = scope.path('server.pid');
  const program = new Program(scope, 'nbdkit', [
    '-f',
    '-i',
    address,
    '-p',
    String(port),
    '-P',
    pidfile,
    ...words,
    'memory',
    '4M',
  ]);
  await program.fills(pidfile);
  return port;
}

async function writesAndReads(scope: Scope, uri: string): Promise<void> {
  const disk = await mountDisk(scope, { server: [uri] });
  const handle = await openFile(scope, disk.file, 'r+');
  const bytes = Buffer.from(Array.from({ length: 1_000_000 }, (_, i) => (i * 7) % 251));
  await handle.write(bytes, 0, bytes.length, 12_345);
  await handle.sync();
  await handle.close();
  execFileSync('sh', ['-c', 'echo 1 > /proc/sys/vm/drop_caches']);
  expect(
    readFileSync(disk.file)
      .subarray(12_345, 12_345 + bytes.length)
      .equals(bytes),
  ).toBe(true);
  expect(await disk.stop()).toBe(0);
}

it('secure mount: over TCP, IPv4 and by name', async () => {
  const scope = createScope();
  const port = await serve(scope, '127.0.0.1');
  await writesAndReads(scope, `nbd://localhost:${port}`);
});

it('secure mount: over TCP, IPv6', async () => {
  const scope = createScope();
  const port = await serve(scope, '::1');
  await writesAndReads(scope, `nbd://[::1]:${port}`);
});

it('secure mount: over TLS with certificates', async () => {
  const scope = createScope();
  const pki = makePki(scope.path('pki'));
  const port = await serve(scope, '127.0.0.1', '--tls=require', `--tls-certificates=${pki}`);
  await writesAndReads(scope, `nbds://localhost:${port}?tls-certificates=${pki}`);
});

it('secure mount: over TLS with a pre-shared key', async () => {
  const scope = createScope();
  const keys = createPsk(scope.path('keys.psk'));
  const port = await serve(scope, '127.0.0.1', '--tls=require', `--tls-psk=${keys}`);
  await writesAndReads(scope, `nbds://alice@localhost:${port}?tls-psk-file=${keys}`);
});

it('secure mount: a plain URI for a server that requires TLS fails with one line', async () => {
  const scope = createScope();
  const pki = makePki(scope.path('pki'));
  const port = await serve(scope, '127.0.0.1', '--tls=require', `--tls-certificates=${pki}`);
  const program = startNbdfuse(scope, [scope.folder, `nbd://localhost:${port}`]);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(/^nbdfuse: .*TLS/);
});
