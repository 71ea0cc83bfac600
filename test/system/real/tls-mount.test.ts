// Disks over TLS whose records the worker handles: large and small, buffered and direct, after a loss, and
// sessions that stay in Node.js.

import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { makePki } from '../../support/run/certificates.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('fio', 'nbdkit', 'qemu-nbd', 'certtool', 'cmp');

const MIB = 1024 * 1024;

let common: Scope;
let pki: string;

beforeAll(() => {
  common = new Scope();
  pki = makePki(common.path('pki'));
});

afterAll(() => common.close());

const uri = (socket: string): string => `nbds+unix:///?socket=${socket}&tls-certificates=${pki}`;

async function mountNbdkit(scope: Scope, ...plugin: readonly string[]): Promise<MountedDisk> {
  const server = await startNbdkit(scope, '--tls=require', `--tls-certificates=${pki}`, ...plugin);
  return mountDisk(scope, { server: [uri(server.socket)] });
}

async function mountQemu(scope: Scope, priority: string): Promise<MountedDisk> {
  const raw = scope.path('disk.raw');
  writeFileSync(raw, '');
  truncateSync(raw, 32 * MIB);
  const object = `tls-creds-x509,id=tls0,endpoint=server,dir=${pki},priority=${priority}`;
  const words = ['--format=raw', `--object=${object}`, '--tls-creds=tls0', raw];
  return mountDisk(scope, { server: [uri((await startQemuNbd(scope, ...words)).socket)] });
}

/** Writes and verifies with fio, which fails after a wrong byte. */
async function fio(disk: MountedDisk, ...words: readonly string[]): Promise<void> {
  const job = ['--name=job', `--filename=${disk.file}`, '--allow_file_create=0', '--rw=randwrite'];
  const verify = ['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--thread'];
  await runProgram('fio', ...job, ...verify, ...words);
}

const DIRECT = ['--ioengine=libaio', '--iodepth=8', '--direct=1'];

it.each([
  ['buffered, of all sizes', ['--ioengine=psync', '--bsrange=512-1m', '--size=32M', '--end_fsync=1']],
  ['direct, of 1 MiB', [...DIRECT, '--bs=1m', '--size=32M']],
  ['direct, of odd sizes', [...DIRECT, '--bsrange=512-300k', '--bs_unaligned=0', '--size=32M']],
  [
    'direct, of 4 KiB by eight jobs',
    [...DIRECT, '--bs=4k', '--numjobs=8', '--size=2M', '--offset_increment=2M'],
  ],
])('TLS mount: fio finds the data that it wrote: %s', async (_way, words) => {
  const scope = createScope();
  const disk = await mountNbdkit(scope, 'memory', '32M');
  await fio(disk, ...words);
  expect(await disk.stop()).toBe(0);
});

it.each([
  ['AES-128-GCM', 'NORMAL:-CIPHER-ALL:+AES-128-GCM'],
  ['ChaCha20', 'NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305'],
  ['TLS 1.2, which the main thread handles', 'NORMAL:-VERS-TLS1.3'],
])('TLS mount: fio finds the data that it wrote to qemu-nbd with %s', async (_name, priority) => {
  const scope = createScope();
  const disk = await mountQemu(scope, priority);
  await fio(disk, '--ioengine=psync', '--bsrange=4k-1m', '--size=32M', '--end_fsync=1');
  expect(await disk.stop()).toBe(0);
});

it('TLS mount: a large file reads correctly, buffered and direct', async () => {
  const scope = createScope();
  const original = scope.path('original');
  writeFileSync(original, randomBytes(48 * MIB));
  const disk = await mountNbdkit(scope, 'file', original);
  await runProgram('cmp', original, disk.file);
  const copy = scope.path('copy');
  await runProgram('dd', `if=${disk.file}`, `of=${copy}`, 'bs=1M', 'iflag=direct', 'status=none');
  expect(readFileSync(copy).equals(readFileSync(original))).toBe(true);
});

it('TLS mount: reconnects to a killed server, and loses nothing', async () => {
  const scope = createScope();
  const raw = scope.path('disk.raw');
  writeFileSync(raw, '');
  truncateSync(raw, 8 * MIB);
  const words = ['--tls=require', `--tls-certificates=${pki}`, 'file', raw];
  const first = await startNbdkit(scope, ...words);
  const disk = await mountDisk(scope, { server: [uri(first.socket)] });
  await writeAt(disk.file, Buffer.alloc(MIB, 'before '), 0);
  await first.program.kill('SIGKILL');
  const reading = readAt(disk.file, 4 * MIB, 4096);
  await disk.program.says(/the server is lost/);
  await startNbdkit(scope, ...words);
  await disk.program.says(/reconnected/);
  expect((await reading).every((byte) => byte === 0)).toBe(true);
  await writeAt(disk.file, Buffer.alloc(MIB, 'after '), 2 * MIB);
  expect(await disk.stop()).toBe(0);
  await until('both writes on the disk', () => {
    const bytes = readFileSync(raw);
    return (
      bytes.subarray(0, MIB).equals(Buffer.alloc(MIB, 'before ')) &&
      bytes.subarray(2 * MIB, 3 * MIB).equals(Buffer.alloc(MIB, 'after '))
    );
  });
});
