// Real AF_VSOCK: runs in the guest of scripts/guest/run, whose kernel reaches itself as CID 1.

import { readFile, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { connectMany, listExports, NbdClient } from '../../../src/index.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { makePki } from '../../support/run/certificates.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { createPsk } from '../../support/run/images.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startVsockNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'psktool', 'certtool');

const MIB = 1024 * 1024;
const PORT = 10_809;

/** Bytes in which all pages differ. */
const BYTES = Buffer.from(Array.from({ length: MIB }, (_, i) => (i * 7 + (i >> 12)) % 251));

async function connect(scope: Scope, ...args: Parameters<typeof NbdClient.connect>): Promise<NbdClient> {
  const client = await NbdClient.connect(...args);
  scope.add(() => client.close());
  return client;
}

it('vsock: data written to a file by --vsock arrives at nbd+vsock://1/ and in the library', async () => {
  const scope = createScope();
  await startVsockNbdkit(scope, PORT, 'memory', '10M');
  const disk = await mountDisk(scope, { server: ['--vsock', '1', String(PORT)] });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(BYTES, 0, MIB, 123_457);
  await file.sync();
  await file.close();
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');

  const client = await connect(scope, { vsock: { cid: 1 } });
  expect(client.size).toBe(10n * BigInt(MIB));
  expect((await client.read(123_457, MIB)).equals(BYTES)).toBe(true);
  await client.write(5 * MIB, BYTES.subarray(0, 70_001), { fua: true });

  const again = await mountDisk(scope, { server: ['nbd+vsock://1/'], name: 'again' });
  const content = await readFile(again.file);
  expect(content.length).toBe(10 * MIB);
  expect(content.subarray(123_457, 123_457 + MIB).equals(BYTES)).toBe(true);
  expect(content.subarray(5 * MIB, 5 * MIB + 70_001).equals(BYTES.subarray(0, 70_001))).toBe(true);
  expect(await again.stop()).toBe(0);
});

it('vsock: several connections of the library share the work', async () => {
  const scope = createScope();
  const log = scope.path('log');
  await startVsockNbdkit(scope, 4242, '--filter=log', 'memory', '1M', `logfile=${log}`);
  const client = await connectMany({ vsock: { cid: 1, port: 4242 } }, 4);
  scope.add(() => client.close());
  const parts = await Promise.all(
    Array.from({ length: 16 }, (_, i) => client.write(i * 4096, BYTES.subarray(i * 4096, (i + 1) * 4096))),
  );
  expect(parts).toHaveLength(16);
  await client.flush();
  expect((await client.read(0, 65_536)).equals(BYTES.subarray(0, 65_536))).toBe(true);
  const used = (await readFile(log, 'utf8')).matchAll(/connection=(\d+) Write /g);
  expect(new Set(Array.from(used, ([, connection]) => connection)).size).toBe(4);
});

it('vsock: nbdfuse --list and listExports return the exports', async () => {
  const scope = createScope();
  await startVsockNbdkit(scope, PORT, '--exportname=', 'memory', '3M');
  const [listed] = await listExports('nbd+vsock://1');
  expect(listed.info?.size).toBe(3n * BigInt(MIB));
  const text = await runProgram('node', NBDFUSE, '--list', '--json', 'nbd+vsock://1');
  expect(text).toContain(String(3 * MIB));
});

it.each([
  ['where nobody listens', '1', 'connection reset by peer'],
  ['of an unknown machine', '4242', 'no such device; no such machine, or no vsock in this kernel'],
])('vsock: a port %s gets one line', async (_, cid, reason) => {
  const scope = createScope();
  const program = startNbdfuse(scope, [scope.path(), '--vsock', cid, '4711']);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toBe(`nbdfuse: cannot connect to vsock ${cid}:4711: ${reason}\n`);
});

it('vsock: nbds+vsock is TLS with a key or with certificates, and nothing else', async () => {
  const scope = createScope();
  const keys = createPsk(scope.path('keys.psk'));
  await startVsockNbdkit(scope, PORT, '--tls=require', `--tls-psk=${keys}`, 'memory', '1M');
  const disk = await mountDisk(scope, { server: [`nbds+vsock://alice@1/?tls-psk-file=${keys}`] });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(BYTES, 0, 300_001, 4321);
  await file.sync();
  await file.close();
  expect(await disk.stop()).toBe(0);
  const tls = { type: 'psk', pskFile: keys, username: 'alice' } as const;
  const client = await connect(scope, { vsock: { cid: 1 } }, { tls });
  expect((await client.read(4321, 300_001)).equals(BYTES.subarray(0, 300_001))).toBe(true);
  await expect(connect(scope, 'nbd+vsock://1')).rejects.toThrow('TLS');

  const certificates = makePki(scope.path('pki'), { cn: 'guest', host: 'guest' });
  const options = ['--tls=require', `--tls-certificates=${certificates}`, '--tls-verify-peer'];
  await startVsockNbdkit(scope, 10_810, ...options, 'memory', '1M');
  const secured = { certificates, hostname: 'guest' };
  const other = await connect(scope, { vsock: { cid: 1, port: 10_810 } }, { tls: secured });
  expect((await other.read(0, 512)).equals(Buffer.alloc(512))).toBe(true);
  const wrong = { tls: { ...secured, hostname: 'elsewhere' } };
  await expect(connect(scope, { vsock: { cid: 1, port: 10_810 } }, wrong)).rejects.toThrow('elsewhere');
});

it('vsock: a server that is killed and comes back has all writes', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  await writeFile(image, Buffer.alloc(MIB));
  const server = await startVsockNbdkit(scope, PORT, 'file', image);
  const disk = await mountDisk(scope, { server: ['nbd+vsock://1/'], options: ['--cache=none'] });
  const source = scope.path('source');
  await writeFile(source, BYTES);
  const copy = (page: number): Program =>
    new Program(scope, 'dd', [
      ...[`if=${source}`, `of=${disk.file}`, 'bs=8k', 'count=1', `skip=${page}`, `seek=${page}`],
      'conv=notrunc,fsync',
    ]);
  expect(await copy(0).ended).toBe(0);
  await server.kill('SIGKILL');
  // In a separate process: a process that has a file open with a write under way cannot start programs.
  const late = copy(1);
  await disk.program.says(/the server is lost/);
  await startVsockNbdkit(scope, PORT, 'file', image);
  expect(await late.ended).toBe(0);
  await until('the message about the reconnection', () => /reconnected after/.test(disk.stderr));
  expect((await readFile(disk.file)).subarray(0, 16_384).equals(BYTES.subarray(0, 16_384))).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect((await readFile(image)).subarray(0, 16_384).equals(BYTES.subarray(0, 16_384))).toBe(true);
});

it('vsock: an orderly end leaves no process and no mount', async () => {
  const scope = createScope();
  const server = await startVsockNbdkit(scope, PORT, '--filter=exitlast', 'memory', '1M');
  const disk = await mountDisk(scope, { server: ['nbd+vsock://1/'] });
  const { stdout } = await tryProgram('umount', disk.mountpoint);
  expect(stdout).toBe('');
  expect(await disk.program.ended).toBe(0);
  // The server ends when its last client has left.
  expect(await server.ended).toBe(0);
});
