// Files that are no raw disks, made by the programs of their formats, and disks that hold only the differences from
// another one: each is refused with its name and the next step, and none is changed.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { makeReadOnlyImage } from '../../support/read-only-images.js';
import { runShell } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'xz', 'gzip', 'tar', 'zip', 'zstd', 'gpg', 'gpg-agent');

async function refusal(scope: Scope, image: string): Promise<string> {
  const program = startNbdfuse(scope, [scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  return program.stderr;
}

/** The name of the file, what it is, the remedy, and the script that makes it of the raw disk. */
const FILES: readonly (readonly [string, string, string, string])[] = [
  [
    'a.img',
    'a tar archive',
    'open a disk in it with --member NAME, or unpack it (tar -xf)',
    'tar -C "$(dirname "$0")" -cf "$1" disk.raw',
  ],
  [
    'a.iso',
    'a zip archive',
    'open a disk in it with --member NAME, or unpack it (unzip)',
    'zip -qj0 "$1.zip" "$0"; mv "$1.zip" "$1"',
  ],
  ['a.deb', 'an ar archive', 'unpack it first (ar x)', 'printf "!<arch>\\n" | cat - "$0" >"$1"'],
  ['a.lzma', 'a file compressed with lzma', 'unpack it first (lzma -d)', 'xz --format=lzma -0c "$0" >"$1"'],
  [
    'skip.img',
    'a file compressed with zstd or lz4',
    'name its compression (--format=zst or --format=lz4)',
    '(printf "\\120\\052\\115\\030\\4\\0\\0\\0skip"; zstd -qc "$0") >"$1.x"; zstd -qdc "$1.x" | cmp - "$0"; mv "$1.x" "$1"',
  ],
  [
    'a.gpg',
    'a file that gpg has encrypted',
    'decrypt it first (gpg -d)',
    'gpg --homedir "$(mktemp -d "$(dirname "$0")/XXXX")" --batch -q --passphrase x -c -z 0 -o "$1" "$0"',
  ],
  [
    'a.img.xz',
    'a tar archive',
    'open a disk in it with --member NAME, or unpack it (tar -xf)',
    'tar -C "$(dirname "$0")" -cf - disk.raw | xz -0 >"$1"',
  ],
];

describe('file that is no disk', () => {
  it.each(FILES)('%s is refused as %s', async (name, what, remedy, script) => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    const image = scope.path(name);
    await runShell(script, raw, image);
    const hash = await hashOf(image);
    expect(await refusal(scope, image)).toBe(
      `nbdfuse: ${name} is ${what}, not a raw disk: ${remedy}, or use --format=raw to serve it unchanged\n`,
    );
    expect(await hashOf(image)).toBe(hash);
  });

  it('is served unchanged with --format=raw', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    await runShell('tar -C "$(dirname "$0")" -cf "$1" disk.raw', raw, scope.path('a.img'));
    const disk = await mountDisk(scope, { server: [scope.path('a.img')], options: ['-r', '--format=raw'] });
    expect(await hashOf(disk.file)).toBe(await hashOf(scope.path('a.img')));
  });

  it('is refused on a web server', async () => {
    const scope = createScope();
    writeFileSync(scope.path('system.img'), Buffer.from('377abcaf271c0004', 'hex'));
    appendFileSync(scope.path('system.img'), Buffer.alloc(8192));
    const web = await startHttpRangeServer(scope, scope.path('system.img'), 'system.img');
    expect(await refusal(scope, web.url)).toMatch(/system\.img is a 7z archive, not a raw disk: /);
  });

  it.each([
    [1, 'is a dmg without a map of its blocks, which QEMU does not open: convert it where it was made'],
    [3, 'is one of several files of a dmg, which QEMU does not open: convert it where it was made'],
  ])('a raw disk with the trailer of a dmg of %i segments', async (segments, message) => {
    const scope = createScope();
    const raw = await createRaw(scope, 1, 'disk.dmg');
    const trailer = Buffer.alloc(512);
    trailer.write('koly\0\0\0\x04');
    trailer.writeUInt32BE(segments, 60);
    appendFileSync(raw, trailer);
    expect(await refusal(scope, raw)).toContain(`nbdfuse: ${raw} ${message}`);
  });

  it.each([
    [0x80000004, 'ADC'],
    [0x80000008, 'lzma'],
  ])('a dmg with blocks of the type %i (%s)', async (type, coding) => {
    const scope = createScope();
    const image = makeReadOnlyImage('dmg', await createRaw(scope, 1), scope.path('disk.dmg'));
    const bytes = readFileSync(image);
    const [start, end] = [bytes.indexOf('<data>') + 6, bytes.indexOf('</data>')];
    const table = Buffer.from(bytes.toString('latin1', start, end), 'base64');
    table.writeUInt32BE(type, 204);
    bytes.write(`\n${table.toString('base64')}\n`, start);
    writeFileSync(image, bytes);
    expect(await refusal(scope, image)).toBe(
      `nbdfuse: ${image} is a dmg compressed with ${coding}, which QEMU does not decode: ` +
        'convert it where it was made (hdiutil convert -format UDZO)\n',
    );
  });

  it.each(['img', 'vhd'])('a VHD of fixed size called disk.%s', async (suffix) => {
    const scope = createScope();
    const raw = await createRaw(scope, 4);
    const image = await convertTo(scope, raw, 'vpc', `disk.${suffix}`, 'subformat=fixed,force_size');
    if (suffix === 'vhd') {
      const disk = await mountDisk(scope, { server: [image], options: ['-r'] });
      expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    } else
      expect(await refusal(scope, image)).toMatch(/^nbdfuse: disk\.img looks like a vhd image, but its name/);
  });
});

/** Writes `parent ä.vhd` as the parent of a dynamic VHD into both copies of its footer, or only into the last one. */
function makeVhdChild(image: string, keepsHead: boolean): void {
  const bytes = readFileSync(image);
  for (const at of [0, bytes.length - 512]) {
    bytes.writeUInt32BE(4, at + 60);
    bytes.writeUInt32BE(0, at + 64);
    const sum = bytes.subarray(at, at + 512).reduce((all, byte) => all + byte, 0);
    bytes.writeUInt32BE(~sum >>> 0, at + 64);
  }
  bytes.set(Buffer.from('parent ä.vhd', 'utf16le').swap16(), 512 + 64);
  if (!keepsHead) bytes.fill(0, 0, 512);
  writeFileSync(image, bytes);
}

/** Sets the parent of a VDI. */
function makeVdiChild(image: string): void {
  const bytes = readFileSync(image);
  bytes.writeUInt32LE(4, 0x4c);
  bytes.set(Buffer.from('33221100554477668899aabbccddeeff', 'hex'), 0x1b8);
  writeFileSync(image, bytes);
}

/** Gives a VHDX of qemu-img a parent locator, and sets the flag of the file parameters. */
function makeVhdxChild(image: string): void {
  const bytes = readFileSync(image);
  const region = bytes.indexOf(Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex'), 192 * 1024);
  const metadata = Number(bytes.readBigUInt64LE(region + 16));
  const count = bytes.readUInt16LE(metadata + 10);
  const parameters = metadata + bytes.readUInt32LE(metadata + 32 + 16);
  bytes.writeUInt32LE(bytes.readUInt32LE(parameters + 4) | 2, parameters + 4);
  const [key, value] = ['relative_path', '.\\parent.vhdx'].map((text) => Buffer.from(text, 'utf16le'));
  const [place, length] = [128 * 1024, 4096];
  const locator = Buffer.alloc(length);
  locator.writeUInt16LE(1, 18);
  locator.writeUInt32LE(100, 20);
  locator.writeUInt32LE(200, 24);
  locator.writeUInt16LE(key.length, 28);
  locator.writeUInt16LE(value.length, 30);
  locator.set(key, 100);
  locator.set(value, 200);
  bytes.set(locator, metadata + place);
  const entry = metadata + 32 + 32 * count;
  bytes.set(Buffer.from('2d5fd3a80bb34d45abf7d3d84834ab0c', 'hex'), entry);
  bytes.writeUInt32LE(place, entry + 16);
  bytes.writeUInt32LE(length, entry + 20);
  bytes.writeUInt16LE(count + 1, metadata + 10);
  writeFileSync(image, bytes);
}

describe('disk with a parent that QEMU does not open', () => {
  it.each<[string, string, (image: string) => void, string]>([
    ['child.vhd', 'vpc', (image) => makeVhdChild(image, true), 'parent ä.vhd'],
    ['tail.vhd', 'vpc', (image) => makeVhdChild(image, false), 'parent ä.vhd'],
    ['child.avhd', 'vpc', (image) => makeVhdChild(image, true), 'parent ä.vhd'],
    ['child.vdi', 'vdi', makeVdiChild, '{00112233-4455-6677-8899-aabbccddeeff}'],
    ['child.vhdx', 'vhdx', makeVhdxChild, '.\\parent.vhdx'],
    ['child.avhdx', 'vhdx', makeVhdxChild, '.\\parent.vhdx'],
  ])('%s is refused, and the parent is named', async (name, format, make, parent) => {
    const scope = createScope();
    const image = await convertTo(scope, await createRaw(scope, 1), format, name);
    make(image);
    for (const options of [[], [`--format=${format}`], ['--overlay']]) {
      const program = startNbdfuse(scope, [...options, scope.path('mnt'), image]);
      expect(await program.ended).toBe(1);
      expect(program.stderr).toContain(
        `nbdfuse: ${image} holds only the differences from its parent ${parent}, which QEMU does not open: ` +
          'make one disk of both where it was made (',
      );
    }
  });

  it('a parallels disk with snapshots is refused', async () => {
    const scope = createScope();
    const image = await convertTo(scope, await createRaw(scope, 1), 'parallels', 'disk.hds');
    const images = (count: number): string => '<Image><File>disk.hds</File></Image>\n'.repeat(count);
    writeFileSync(
      scope.path('DiskDescriptor.xml'),
      `<Parallels_disk_image>\n${images(2)}</Parallels_disk_image>\n`,
    );
    expect(await refusal(scope, image)).toBe(
      `nbdfuse: ${image} is one of 2 files of a disk with snapshots, and QEMU opens only one: ` +
        'merge them where it was made (prl_disk_tool merge)\n',
    );
    writeFileSync(
      scope.path('DiskDescriptor.xml'),
      `<Parallels_disk_image>\n${images(1)}</Parallels_disk_image>\n`,
    );
    const disk = await mountDisk(scope, { server: [image], options: ['-r'] });
    expect(await disk.stop()).toBe(0);
  });

  it('is refused in a compressed file', async () => {
    const scope = createScope();
    const image = await convertTo(scope, await createRaw(scope, 1), 'vpc', 'child.vhd');
    makeVhdChild(image, true);
    await runShell('gzip "$0"', image);
    expect(await refusal(scope, `${image}.gz`)).toContain('differences from its parent parent ä.vhd, which');
  });
});

describe('one file of a disk', () => {
  it('of a VMDK with several is refused, and its descriptor opens all', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    const image = await convertTo(scope, raw, 'vmdk', 'disk.vmdk', 'subformat=twoGbMaxExtentSparse');
    for (const name of ['disk-s001.vmdk', 'delta.vmdk']) {
      if (name === 'delta.vmdk') writeFileSync(scope.path(name), 'COWD'.padEnd(70_000, '\0'));
      expect(await refusal(scope, scope.path(name))).toBe(
        `nbdfuse: ${name} is one extent of a disk: name its descriptor, the small .vmdk file that contains this name\n`,
      );
    }
    const disk = await mountDisk(scope, { server: [image], options: ['-r'] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });
});
