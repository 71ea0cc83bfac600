// Compressed files in several parts, with padding, cut short, or with long blocks: the bytes that the program of the
// format gives, or a refusal that names the next step.

import { readFileSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { runShell } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'xz', 'gzip', 'bzip2', 'zstd', 'lz4');

const MIB = 1024 * 1024;
const MEBIBYTES = 4;

/** The refusal of a damaged file, in one line. */
const CANNOT =
  /^nbdfuse: cannot decode \S*disk\.img\.\w+ \(\w+\): .*: get it again, and check it with \w+ -t\n$/;

async function refusal(scope: Scope, image: string): Promise<string> {
  const program = startNbdfuse(scope, [scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  return program.stderr;
}

/** Runs a script of the shell, whose `$0` is the raw disk and `$1` the file that it makes. */
async function made(scope: Scope, name: string, script: string): Promise<{ raw: string; image: string }> {
  const raw = await createRaw(scope, MEBIBYTES);
  const image = scope.path(name);
  await runShell(script, raw, image);
  return { raw, image };
}

const HALVES = '(head -c 2M "$0" | gzip -1; tail -c +2097153 "$0" | gzip -1) >"$1"';

/** Mounts an image, whose disk must be what a command makes of the file. */
async function mountsAs(scope: Scope, server: string, image: string, command: string): Promise<string> {
  const disk = await mountDisk(scope, { server: [server] });
  await runShell(`${command} "$0" 2>/dev/null | cmp - "$1"`, image, disk.file);
  expect(await disk.stop()).toBe(0);
  return disk.stderr;
}

describe('gzip file of several members', () => {
  it.each([
    ['two halves of a disk', HALVES],
    ['the same disk twice', '(gzip -c "$0"; gzip -c "$0") >"$1"'],
    ['an empty second one', '(gzip -c "$0"; gzip -c </dev/null) >"$1"'],
  ])('mounts as gzip -dc unpacks it: %s', async (_, script) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', script);
    await mountsAs(scope, image, image, 'gzip -dc');
  });

  it('mounts from a web server', async () => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', HALVES);
    const web = await startHttpRangeServer(scope, image, 'disk.img.gz');
    await mountsAs(scope, web.url, image, 'gzip -dc');
  });

  it('mounts around a qcow2', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, MEBIBYTES, 'source.raw');
    const qcow2 = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    await runShell(HALVES, qcow2, `${qcow2}.gz`);
    const disk = await mountDisk(scope, { server: [`${qcow2}.gz`] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });
});

describe('gzip file', () => {
  it.each([
    ['zeros behind it', 'head -c 3000', '/dev/zero'],
    ['a gzip file behind zeros', 'printf "\\0\\0"; gzip -c', '"$0"'],
    ['other bytes behind it', 'echo', 'bytes'],
  ])('mounts as gzip -dc unpacks it: %s', async (_, words, from) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', `(gzip -c "$0"; ${words} ${from}) >"$1"`);
    await mountsAs(scope, image, image, 'gzip -dc');
  });

  it.each([1, 6, 2000])('without its last %i bytes is refused', async (missing) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', 'gzip -c "$0" >"$1"');
    writeFileSync(image, readFileSync(image).subarray(0, -missing));
    expect(await refusal(scope, image)).toMatch(CANNOT);
  });

  it.each([
    ['a wrong byte', 2 << 20],
    ['a wrong checksum', -8],
  ])('with %s is refused in one line', async (_, at) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', 'head -c 4M /dev/urandom | gzip -c >"$1"');
    const bytes = readFileSync(image);
    bytes[at < 0 ? bytes.length + at : at] ^= 1;
    writeFileSync(image, bytes);
    await expect(runShell('gzip -t "$0"', image)).rejects.toThrow();
    expect(await refusal(scope, image)).toMatch(CANNOT);
  });

  it('inside another compressed file is refused, not served as a disk', async () => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.xz', 'gzip -c "$0" | xz -0 >"$1"');
    expect(await refusal(scope, image)).toMatch(
      /^nbdfuse: disk\.img\.xz is a file compressed with gzip, not a raw disk: unpack it first \(gzip -d\)/,
    );
  });

  it('of a VHD of fixed size is opened as one, by its footer', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, MEBIBYTES);
    const image = await convertTo(scope, raw, 'vpc', 'disk.vhd', 'subformat=fixed,force_size');
    await runShell('gzip "$0"', image);
    const disk = await mountDisk(scope, { server: [`${image}.gz`] });
    expect(disk.stderr).toContain(
      'is vhd, compressed with gzip; serving it with nbdfuse-chunks and qemu-nbd',
    );
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });
});

describe('xz file', () => {
  it.each([
    ['two streams', '(head -c 2M "$0" | xz -0; tail -c +2097153 "$0" | xz -0) >"$1"'],
    ['padding at its end', '(xz -0c "$0"; head -c 8 /dev/zero) >"$1"'],
    [
      'padding between streams',
      '(head -c 2M "$0" | xz -0; head -c 4 /dev/zero; tail -c +2097153 "$0" | xz -0) >"$1"',
    ],
    [
      'padding between and after streams',
      `(head -c 2M "$0" | xz -0; head -c 8 /dev/zero; tail -c +${2 * MIB + 1} "$0" | xz -0; head -c 4 /dev/zero) >"$1"`,
    ],
  ])('mounts as xz -dc unpacks it: %s', async (_, script) => {
    const scope = createScope();
    const { raw, image } = await made(scope, 'disk.img.xz', script);
    const disk = await mountDisk(scope, { server: [image] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });

  it('with a block of 600 MiB mounts', async () => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.xz', 'head -c 600M /dev/zero | xz -0 >"$1"');
    const disk = await mountDisk(scope, { server: [image] });
    expect((await stat(disk.file)).size).toBe(600 * MIB);
    expect((await readAt(disk.file, 599 * MIB, 4096)).every((byte) => byte === 0)).toBe(true);
  });

  it('without its end is refused in one line', async () => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.xz', 'xz -0c "$0" | head -c 4000 >"$1"');
    expect(await refusal(scope, image)).toMatch(CANNOT);
  });

  it('with a damaged block mounts, and only that block fails', async () => {
    const scope = createScope();
    const { raw, image } = await made(
      scope,
      'disk.img.xz',
      'head -c 4M /dev/urandom >"$0"; xz -0c --block-size=1MiB "$0" >"$1"',
    );
    const bytes = readFileSync(image);
    bytes[Math.floor(bytes.length * 0.6)] ^= 1;
    writeFileSync(image, bytes);
    const disk = await mountDisk(scope, { server: [image] });
    expect(await readAt(disk.file, 0, MIB)).toEqual(await readAt(raw, 0, MIB));
    expect(await readAt(disk.file, 3 * MIB, MIB)).toEqual(await readAt(raw, 3 * MIB, MIB));
    await expect(readAt(disk.file, 2 * MIB, MIB)).rejects.toThrow(/EIO/);
  });

  it('gives no byte of a damaged block that shares a unit of 256 KiB with a sound one', async () => {
    const scope = createScope();
    const border = 8 * MIB + 1;
    const { raw, image } = await made(
      scope,
      'disk.img.xz',
      `head -c 17M /dev/urandom >"$0"; xz -0c --block-size=${border} "$0" >"$1"`,
    );
    const list = await runShell('xz --robot -lvv "$0"', image);
    const second = Number(/^block\t\d+\t\d+\t2\t(\d+)/m.exec(list)?.[1]);
    const bytes = readFileSync(image);
    // The decoder notices such a byte only at the check, which is at the end of the block.
    bytes[second + 2000] ^= 1;
    writeFileSync(image, bytes);
    // The kernel's cache would read the last byte of the first block together with those behind it.
    const disk = await mountDisk(scope, { server: [image], options: ['--cache=none'] });
    const isRead = readAt(disk.file, border, 8192).then(() => true);
    await expect(isRead).rejects.toMatchObject({ code: 'EIO' });
    await runShell(`head -c ${border} "$0" | cmp -n ${border} - "$1"`, disk.file, raw);
    const third = Math.ceil((2 * border) / (MIB / 4)) * (MIB / 4);
    await runShell(
      `tail -c +${third + 1} "$0" >"$0.3"; tail -c +${third + 1} "$1" | cmp - "$0.3"`,
      raw,
      disk.file,
    );
  });
});

describe('compressed file', () => {
  it.each([
    ['disk.img.bz2', '(head -c 2M "$0" | bzip2; tail -c +2097153 "$0" | bzip2) >"$1"', 'bzip2 -dc'],
    ['disk.img.zst', '(head -c 2M "$0" | zstd -q; tail -c +2097153 "$0" | zstd -q) >"$1"', 'zstd -qdc'],
    ['disk.img.lz4', 'lz4 -q "$0" "$1"', 'lz4 -qdc'],
  ])('%s mounts as its program unpacks it', async (name, script, command) => {
    const scope = createScope();
    const { image } = await made(scope, name, script);
    await mountsAs(scope, image, image, command);
  });
});
