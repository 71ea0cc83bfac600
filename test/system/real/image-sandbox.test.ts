// The servers of images in their sandbox, as a normal user; the other tests of images run as root in the same one.

import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile, rename } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { blockAt, blockOf, convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { descendants } from '../../support/run/descendants.js';
import { createQcow2 } from '../../support/run/images.js';
import { type MountedDisk, mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz', 'gzip', 'perl', 'setpriv', 'ps');

/** A scope whose files belong to the normal user after `made` has created them. */
async function createFiles(
  made: (scope: Scope) => Promise<string>,
): Promise<{ scope: Scope; image: string }> {
  const scope = createScope();
  admitNormalUser(scope);
  const image = await made(scope);
  await runProgram('chown', '-R', '65534:65534', scope.folder);
  return { scope, image };
}

/** Mounts as the normal user, over a folder that is theirs. */
async function mountAsUser(scope: Scope, image: string, ...options: string[]): Promise<MountedDisk> {
  mkdirSync(scope.path('mnt'), { recursive: true });
  chownSync(scope.path('mnt'), 65_534, 65_534);
  const program = { env: { TMPDIR: scope.folder } };
  return mountDisk(scope, { server: [image], options, prefix: AS_NORMAL_USER, program });
}

/** Runs a program as the normal user, whose mount nobody else sees. */
function asUser(...words: readonly string[]): Promise<string> {
  const [command, ...prefix] = AS_NORMAL_USER;
  return runProgram(command, ...prefix, ...words);
}

async function hashAsUser(path: string): Promise<string> {
  return (await asUser('sha256sum', path)).split(' ')[0] ?? '';
}

const KINDS: readonly (readonly [string, (scope: Scope, raw: string) => Promise<string>])[] = [
  ...['qcow2', 'qcow', 'qed', 'vdi', 'vhdx', 'vmdk'].map(
    (format) =>
      [format, (scope: Scope, raw: string) => convertTo(scope, raw, format, `disk.${format}`)] as const,
  ),
  ['vhd', (scope, raw) => convertTo(scope, raw, 'vpc', 'disk.vhd', 'force_size')],
  ['split vmdk', (scope, raw) => convertTo(scope, raw, 'vmdk', 'd.vmdk', 'subformat=twoGbMaxExtentSparse')],
  ['raw', async (_, raw) => raw],
];

async function packed(path: string, program: string, suffix: string): Promise<string> {
  await runProgram(program, '-k', '-1', path);
  return `${path}.${suffix}`;
}

const PACKED: readonly (readonly [string, (scope: Scope, raw: string) => Promise<string>])[] = [
  ['raw.xz', (_, raw) => packed(raw, 'xz', 'xz')],
  ['raw.gz', (_, raw) => packed(raw, 'gzip', 'gz')],
  [
    'qcow2.gz',
    async (scope, raw) => packed(await convertTo(scope, raw, 'qcow2', 'disk.qcow2'), 'gzip', 'gz'),
  ],
];

it.each(KINDS)('sandbox: a normal user reads and writes %s', async (_, make) => {
  const { scope, image } = await createFiles(async (one) => make(one, await createRaw(one, 1, 'source.raw')));
  const disk = await mountAsUser(scope, image, '-v');
  expect(disk.stderr).toContain('nbdfuse: the image server runs in a sandbox\n');
  const write = 'printf written | dd of="$0" bs=1 seek=5000 conv=notrunc,fsync status=none';
  await asUser('sh', '-c', write, disk.file);
  const show = 'dd if="$0" bs=1 skip=4992 count=24 status=none';
  const text = blockOf(1).toString('latin1', 896, 904);
  expect(await asUser('sh', '-c', show, disk.file)).toMatch(new RegExp(`^${text}written.{9}$`));
  expect(await disk.stop()).toBe(0);
  const again = await mountAsUser(scope, image, '-r');
  expect(await asUser('sh', '-c', show, again.file)).toMatch(new RegExp(`^${text}written`));
  expect(await again.stop()).toBe(0);
});

it.each([...KINDS, ...PACKED])('sandbox: a normal user puts an overlay on %s', async (_, make) => {
  const { scope, image } = await createFiles(async (one) => make(one, await createRaw(one, 1, 'source.raw')));
  const hash = await hashOf(scope.path('source.raw'));
  const disk = await mountAsUser(scope, image, '--overlay');
  if (!image.endsWith('.vhd')) expect(await hashAsUser(disk.file)).toBe(hash);
  expect(await disk.stop()).toBe(0);
  const kept = await mountAsUser(scope, image, `--overlay=${scope.path('kept')}`);
  if (!image.endsWith('.vhd')) expect(await hashAsUser(kept.file)).toBe(hash);
  expect(await kept.stop()).toBe(0);
});

it('sandbox: every server of an image runs without new privileges', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 1);
  const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
  await runProgram('xz', '-k', '-0', image);
  const disk = await mountDisk(scope, { server: [`${image}.xz`], options: ['--overlay'] });
  const servers = await descendants(disk.program.pid);
  const found = servers.map(({ args }) => /nbdfuse-chunks|qemu-nbd/.exec(args)?.[0]);
  expect(found).toEqual(['nbdfuse-chunks', 'qemu-nbd']);
  for (const { pid } of servers) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  }
  expect(await disk.stop()).toBe(0);
});

it('sandbox: a data file that a header names only after the check is not opened', async () => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '1M');
  await runProgram('mkdir', scope.path('mnt'));
  const printed = startNbdfuse(scope, ['--print-command', scope.path('mnt'), image]);
  expect(await printed.ended).toBe(0);
  const secret = scope.path('secret');
  const other = scope.path('other.qcow2');
  const options = `data_file=${secret},data_file_raw=on`;
  createQcow2(other, '1M', '-o', options);
  writeFileSync(secret, 'secret\n'.repeat(1000));
  await rename(other, image);
  const line = printed.stdout.trimEnd().replace(/^nbdfuse /, '');
  const program = new Program(scope, 'sh', ['-c', `exec "$0" "$1" ${line}`, process.execPath, NBDFUSE]);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(/qemu-nbd exited with status 1: .*secret': Permission denied/);
});

it('sandbox: settings of perl and a missing locale do not matter', async () => {
  const scope = createScope();
  const image = await convertTo(scope, await createRaw(scope, 1), 'qcow2', 'disk.qcow2');
  await runProgram('gzip', '-k', '-1', image);
  const env = { LC_ALL: 'xx_XX.UTF-8', PERL5LIB: scope.folder };
  const disk = await mountDisk(scope, { server: [`${image}.gz`], options: ['--overlay'], program: { env } });
  expect(disk.stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(await blockAt(disk.file, 4096)).toBe(1);
  expect(await disk.stop()).toBe(0);
});

it('sandbox: without perl there is none, and -v says so', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 1);
  const folder = scope.path('bin');
  await runProgram('mkdir', folder);
  for (const name of ['qemu-nbd', 'sh', 'umount', 'fusermount3']) {
    await runProgram('sh', '-c', 'ln -s "$(command -v "$0")" "$1"', name, folder);
  }
  const disk = await mountDisk(scope, { server: [raw], options: ['-v'], program: { env: { PATH: folder } } });
  expect(disk.stderr).toContain('nbdfuse: the image server runs without a sandbox: perl is not installed\n');
  expect(await blockAt(disk.file, 4096)).toBe(1);
});
