// Compressed files in several parts, with padding, cut short, or with long blocks: the bytes that the program of the
// format gives, or a refusal that names the next step.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { runShell } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'xz', 'gzip');

const MIB = 1024 * 1024;
const MEBIBYTES = 4;

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
const SEVERAL =
  'has several gzip members, and nbdkit reads only the first: unpack it first (gzip -d), or ' +
  'recompress it in blocks, with xz --block-size=16MiB';

describe('gzip file of several members', () => {
  it.each([
    ['two halves of a disk', HALVES],
    ['the same disk twice', '(gzip -c "$0"; gzip -c "$0") >"$1"'],
    ['an empty second one', '(gzip -c "$0"; gzip -c </dev/null) >"$1"'],
  ])('is refused: %s', async (_, script) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', script);
    expect(await refusal(scope, image)).toBe(`nbdfuse: ${image} ${SEVERAL}\n`);
  });

  it('is refused on a web server', async () => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', HALVES);
    const web = await startHttpRangeServer(scope, image, 'disk.img.gz');
    expect(await refusal(scope, web.url)).toBe(`nbdfuse: ${web.url} ${SEVERAL}\n`);
  });

  it('is refused around a qcow2', async () => {
    const scope = createScope();
    const qcow2 = await convertTo(
      scope,
      await createRaw(scope, MEBIBYTES, 'source.raw'),
      'qcow2',
      'disk.qcow2',
    );
    await runShell(HALVES, qcow2, `${qcow2}.gz`);
    expect(await refusal(scope, `${qcow2}.gz`)).toBe(`nbdfuse: ${qcow2}.gz ${SEVERAL}\n`);
  });
});

describe('gzip file', () => {
  it.each([
    ['zeros behind it', 'head -c 3000', '/dev/zero', ''],
    ['a gzip file behind zeros', 'printf "\\0\\0"; gzip -c', '"$0"', '-'],
  ])('mounts as gzip -dc unpacks it: %s', async (_, words, from, warns) => {
    const scope = createScope();
    const { raw, image } = await made(scope, 'disk.img.gz', `(gzip -c "$0"; ${words} ${from}) >"$1"`);
    await runShell('gzip -dc "$1" 2>/dev/null | cmp - "$0"', raw, image);
    const disk = await mountDisk(scope, { server: [image] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    const line = /has \d+ bytes after its end, which nbdfuse ignores as gzip does\n/;
    expect(line.test(disk.stderr)).toBe(warns !== '');
  });

  it.each([1, 6, 2000])('without its last %i bytes is refused', async (missing) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.gz', 'gzip -c "$0" >"$1"');
    writeFileSync(image, readFileSync(image).subarray(0, -missing));
    expect(await refusal(scope, image)).toBe(
      `nbdfuse: ${image} ends too early: get it again, and check it with gzip -t\n`,
    );
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
    expect(await refusal(scope, image)).toBe(
      `nbdfuse: ${image} is damaged: get it again, and check it with gzip -t\n`,
    );
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
    expect(disk.stderr).toContain('is vhd, compressed with gzip; serving it with nbdkit and qemu-nbd');
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
  ])('mounts as xz -dc unpacks it: %s', async (_, script) => {
    const scope = createScope();
    const { raw, image } = await made(scope, 'disk.img.xz', script);
    const disk = await mountDisk(scope, { server: [image] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });

  it.each([
    [
      'a block beyond the limit of nbdkit',
      'head -c 600M /dev/zero | xz -0 >"$1"',
      'IMAGE has an xz block of 600 MiB, and nbdkit unpacks at most 512 MiB at once: ' +
        'recompress it in blocks, with xz --block-size=16MiB, or unpack it first (xz -d)',
    ],
    [
      'a missing end',
      'xz -0c "$0" | head -c 4000 >"$1"',
      'nbdkit cannot unpack IMAGE (xz: invalid stream footer (error 7)): get it again, and check it with xz -t',
    ],
    [
      'padding that makes nbdkit fail',
      `(head -c 2M "$0" | xz -0; head -c 8 /dev/zero; tail -c +${2 * MIB + 1} "$0" | xz -0; head -c 4 /dev/zero) >"$1"`,
      'nbdkit failed while it unpacked IMAGE, which may have stream padding: ' +
        'recompress it in blocks, with xz --block-size=16MiB',
    ],
  ])('is refused in one line: %s', async (_, script, message) => {
    const scope = createScope();
    const { image } = await made(scope, 'disk.img.xz', script);
    expect(await refusal(scope, image)).toBe(`nbdfuse: ${message.replace('IMAGE', image)}\n`);
  });
});
