// Disks in archives and in parts, made by the programs of the formats, and read by the tools that people use on disks:
// each says of the mounted file what it says of the unpacked one.

import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { makeReadOnlyImage } from '../../support/read-only-images.js';
import { runProgram, runShell, tryProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms(
  'nbdkit',
  'qemu-nbd',
  'qemu-img',
  'zip',
  'tar',
  'split',
  'gzip',
  'mkfs.ext4',
  'e2fsck',
  'fdisk',
);

async function refusal(scope: Scope, image: string, ...options: string[]): Promise<string> {
  const program = startNbdfuse(scope, [...options, scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  return program.stderr;
}

/** Runs a script of the shell in the scope's directory. */
const inScope = (scope: Scope, script: string): Promise<string> =>
  runShell(`cd "$0" && ${script}`, scope.folder);

/** A raw disk with ext4, and a file beside it that is none. */
async function createDisk(scope: Scope): Promise<string> {
  const raw = scope.path('disk.raw');
  writeFileSync(raw, '');
  truncateSync(raw, 8 * 1024 * 1024);
  await runProgram('mkfs.ext4', '-q', '-U', '01234567-89ab-cdef-0123-456789abcdef', '-L', 'disk', raw);
  writeFileSync(scope.path('README.txt'), 'no disk\n');
  return raw;
}

/** The file to mount, the words before `is raw` or another format, and the script that makes it. */
const KINDS: readonly (readonly [string, string, string])[] = [
  ['disk.zip', 'disk.raw in disk.zip is raw; serving it with nbdkit', 'zip -q0 disk.zip README.txt disk.raw'],
  ['disk.tar', 'disk.raw in disk.tar is raw; serving it with nbdkit', 'tar -cf disk.tar README.txt disk.raw'],
  [
    'vm.ova',
    'vm-disk1.vmdk in vm.ova is vmdk; serving it with nbdkit and qemu-nbd',
    'qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw vm-disk1.vmdk && echo "<Envelope/>" >vm.ovf && tar -cf vm.ova vm.ovf vm-disk1.vmdk',
  ],
  [
    'disk.raw.001',
    'disk.raw.001 is raw in 3 parts; serving it with nbdkit',
    'split -b 3M -da3 --numeric-suffixes=1 disk.raw disk.raw.',
  ],
  ['disk.raw.aa', 'disk.raw.aa is raw in 3 parts; serving it with nbdkit', 'split -b 3M disk.raw disk.raw.'],
  [
    'disk.raw.00',
    'disk.raw.00 is raw in 3 parts; serving it with nbdkit',
    'split -b 3M -d disk.raw disk.raw.',
  ],
];

/** Commands whose output must be the same for both files. */
const TOOLS: readonly (readonly string[])[] = [
  ['fdisk', '-l'],
  ['blkid', '-p'],
  ['e2fsck', '-fn'],
  ['sha256sum'],
  ['stat', '-c', '%s'],
];

/** A tool's words about a file, without the name of the file. */
async function words(tool: readonly string[], file: string): Promise<string> {
  const [program = '', ...options] = tool;
  const { status, stdout, stderr } = await tryProgram(program, ...options, file);
  return `${status} ${stdout} ${stderr}`.replaceAll(file, 'FILE');
}

describe('disk in an archive or in parts', () => {
  it.each(KINDS)('%s: tools see the disk in it', async (name, line, script) => {
    const scope = createScope();
    const raw = await createDisk(scope);
    await inScope(scope, script);
    const hash = await hashOf(scope.path(name));
    const disk = await mountDisk(scope, { server: [scope.path(name)] });
    expect(disk.stderr.replaceAll(`${scope.folder}/`, '')).toBe(`nbdfuse: ${line}\n`);
    expect((await stat(disk.file)).mode & 0o222).toBe(0);
    for (const tool of TOOLS) expect(await words(tool, disk.file)).toBe(await words(tool, raw));
    await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', disk.file, raw);
    await runProgram('cp', '--sparse=always', disk.file, scope.path('copy'));
    expect(await hashOf(scope.path('copy'))).toBe(await hashOf(raw));
    expect(await disk.stop()).toBe(0);
    expect(await hashOf(scope.path(name))).toBe(hash);
  });

  it.each(KINDS)(
    '%s: mkfs and fsck work on an overlay, also after a second mount',
    async (name, _, script) => {
      const scope = createScope();
      await createDisk(scope);
      await inScope(scope, script);
      const options = [`--overlay=${scope.path('kept.qcow2')}`];
      const hash = await hashOf(scope.path(name));
      const first = await mountDisk(scope, { server: [scope.path(name)], options });
      await runProgram('mkfs.ext4', '-q', '-F', '-L', 'new', first.file);
      expect(await first.stop()).toBe(0);
      const second = await mountDisk(scope, { server: [scope.path(name)], options });
      expect((await tryProgram('e2fsck', '-fn', second.file)).stdout).toMatch(/^new: \d+\/\d+ files/m);
      expect(await second.stop()).toBe(0);
      expect(await hashOf(scope.path(name))).toBe(hash);
    },
  );

  it.each(['parallels', 'dmg', 'cloop', 'bochs'] as const)(
    'tools see the disk in a %s image',
    async (format) => {
      const scope = createScope();
      const raw = await createDisk(scope);
      const suffix = format === 'parallels' ? 'hds' : format;
      const image =
        format === 'parallels'
          ? await convertTo(scope, raw, format, `disk.${suffix}`)
          : makeReadOnlyImage(format, raw, scope.path(`disk.${suffix}`));
      const disk = await mountDisk(scope, { server: [image], options: ['-r'] });
      for (const tool of TOOLS) expect(await words(tool, disk.file)).toBe(await words(tool, raw));
      await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', disk.file, raw);
    },
  );
});

describe('archive', () => {
  it('on a web server is read where it lies', async () => {
    const scope = createScope();
    const raw = await createDisk(scope);
    for (const [name, script] of [
      ['disk.zip', 'zip -q0 disk.zip README.txt disk.raw'],
      ['disk.tar', 'tar -cf disk.tar README.txt disk.raw'],
    ] as const) {
      await inScope(scope, script);
      const web = await startHttpRangeServer(scope, scope.path(name), name);
      const disk = await mountDisk(scope, { server: [web.url] });
      expect(web.sent).toBeLessThan((await stat(raw)).size);
      expect(await hashOf(disk.file)).toBe(await hashOf(raw));
      expect(await disk.stop()).toBe(0);
    }
  });

  it('with several disks needs --member', async () => {
    const scope = createScope();
    await createRaw(scope, 1, 'a.img');
    await runShell('tr a-z A-Z <"$0" >"$1"', scope.path('a.img'), scope.path('b.img'));
    await inScope(
      scope,
      'mkdir dir && cp b.img dir/b.img && zip -q0r two.zip a.img dir && tar -cf two.tar ./a.img dir',
    );
    for (const archive of ['two.zip', 'two.tar'].map((name) => scope.path(name))) {
      expect(await refusal(scope, archive)).toMatch(
        / has several disks \(\S*a\.img, dir\/b\.img\): name one with --member NAME\n$/,
      );
      expect(await refusal(scope, archive, '--member=c.img')).toMatch(
        / has no file c\.img: it has \S*a\.img, dir\/b\.img\n$/,
      );
      const disk = await mountDisk(scope, { server: [archive], options: ['--member=dir/b.img'] });
      expect(await hashOf(disk.file)).toBe(await hashOf(scope.path('b.img')));
      expect(await disk.stop()).toBe(0);
    }
  });

  it.each([
    [
      'a.zip',
      'zip -q0 -P secret a.zip disk.raw',
      'a.zip: disk.raw is encrypted in the archive, and nbdfuse does not open it there yet: unpack it first (unzip)',
    ],
    [
      'a.tar',
      'tar -cSf a.tar disk.raw',
      'a.tar: disk.raw is sparse in the archive, and nbdfuse does not open it there yet: unpack it first (tar -xf)',
    ],
    [
      'a.tar',
      'tar --format=gnu -cSf a.tar disk.raw',
      'a.tar: disk.raw is sparse in the archive, and nbdfuse does not open it there yet: unpack it first (tar -xf)',
    ],
    [
      'a.zip',
      'cp disk.raw a.zip',
      'a.zip should be a zip archive, but does not look like one: use --format=raw if it is raw',
    ],
    [
      'a.tar',
      'tar -cf - disk.raw | head -c 4M >a.tar',
      'a.tar is damaged, or ends too early: get it again, and check it with tar -tf',
    ],
    [
      'a.zip',
      'zip -q0 b.zip disk.raw && head -c 4M b.zip >a.zip',
      'a.zip is damaged, or ends too early: get it again, and check it with unzip -t',
    ],
    [
      'a.tar.gz',
      'cp disk.raw other.raw && tar -czf a.tar.gz disk.raw other.raw',
      'a.tar.gz has several disks (disk.raw, other.raw): name one with --member NAME',
    ],
    [
      'a.tgz',
      'gzip -k disk.raw && tar -czf a.tgz disk.raw.gz',
      'a.tgz: disk.raw.gz is compressed in the archive, and nbdfuse does not open it there yet: unpack it first (tar -xf)',
    ],
    [
      'a.tgz',
      'gzip -c disk.raw >a.tgz',
      'a.tgz should be a tar archive, but does not look like one: use --format=raw.gz if it is raw',
    ],
    [
      'a.tar',
      'zip -q b.zip disk.raw && tar -cf a.tar b.zip',
      'b.zip is a zip archive, not a raw disk: unpack both archives first (unzip), or use --format=raw to serve it unchanged',
    ],
    [
      'a.zip',
      'head -c 1M /dev/urandom >r.img && zip -q -s 64k a.zip r.img',
      'a.zip is the last part of a divided zip archive: join the parts first (zip -s 0 --out whole.zip)',
    ],
    [
      'a.exe',
      'zip -q b.zip disk.raw && (printf "MZ%058d\\100\\0\\0\\0PE\\0\\0" 0; cat b.zip) >a.exe',
      'a.exe is a program of Windows, not a raw disk: unpack it first if it is an archive that unpacks itself (7z x), or use --format=raw to serve it unchanged',
    ],
  ])('%s is refused: %s', async (name, script, message) => {
    const scope = createScope();
    await createDisk(scope);
    await inScope(scope, script);
    expect((await refusal(scope, scope.path(name))).replaceAll(`${scope.folder}/`, '')).toBe(
      `nbdfuse: ${message}\n`,
    );
  });

  it.each([
    ['a.zip', 'zip -q a.zip disk.raw'],
    ['a.zip', 'zip -q b.zip disk.raw && (head -c 70000 /bin/sh; cat b.zip) >a.zip'],
    ['a.zip', 'ln -s disk.raw other.raw && zip -qy a.zip disk.raw other.raw'],
    ['a.zip', 'mkdir __MACOSX && echo x >__MACOSX/._disk.raw && zip -qr a.zip disk.raw __MACOSX'],
    ['a.tar', 'gzip -k disk.raw && tar -cf a.tar disk.raw.gz'],
    ['a.tgz', 'tar -czf a.tgz disk.raw'],
    ['a.tar.xz', 'tar -cJf a.tar.xz disk.raw'],
  ])('%s of a compressed disk is opened: %s', async (name, script) => {
    const scope = createScope();
    const raw = await createDisk(scope);
    await inScope(scope, script);
    const disk = await mountDisk(scope, { server: [scope.path(name)] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect(await disk.stop()).toBe(0);
  });

  it('that says so only by its content is not opened without --member', async () => {
    const scope = createScope();
    const raw = await createDisk(scope);
    await inScope(scope, 'tar -cf disk.img disk.raw');
    expect(await refusal(scope, scope.path('disk.img'))).toMatch(
      /disk\.img is a tar archive, not a raw disk: /,
    );
    const disk = await mountDisk(scope, { server: [scope.path('disk.img')], options: ['--member=disk.raw'] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });

  it('that is compressed as a whole needs only --member, too', async () => {
    const scope = createScope();
    const raw = await createDisk(scope);
    await inScope(scope, 'tar -czf vm.box README.txt disk.raw');
    expect(await refusal(scope, scope.path('vm.box'))).toMatch(/use --format=gz to decompress it/);
    const disk = await mountDisk(scope, { server: [scope.path('vm.box')], options: ['--member=disk.raw'] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });

  it('with an image that names another file is refused, even with --format', async () => {
    const scope = createScope();
    createQcow2(scope.path('disk.qcow2'), '1M', '-u', '-F', 'raw', '-b', '/etc/passwd');
    await inScope(scope, 'tar -cf a.tar disk.qcow2');
    for (const options of [[], ['--format=qcow2']]) {
      expect(await refusal(scope, scope.path('a.tar'), ...options)).toMatch(
        /names the backing file \/etc\/passwd, which/,
      );
    }
  });

  it('keeps the size of a disk that is no multiple of a sector', async () => {
    const scope = createScope();
    writeFileSync(scope.path('odd.img'), Buffer.alloc(1000, 'odd '));
    await inScope(scope, 'zip -q0 odd.zip odd.img');
    for (const options of [[], ['--overlay']]) {
      const disk = await mountDisk(scope, { server: [scope.path('odd.zip')], options });
      expect(await hashOf(disk.file)).toBe(await hashOf(scope.path('odd.img')));
      expect(await disk.stop()).toBe(0);
    }
  });
});

describe('parts of a raw image', () => {
  const SPLIT = 'split -b 3M -da3 --numeric-suffixes=1 disk.raw disk.raw.';

  it.each([
    ['a partition across them', ['--partition=1'], 'disk.raw', ''],
    [
      'a member of an archive',
      [],
      'disk.zip',
      '&& mv disk.raw x && dd if=x of=disk.raw bs=1M skip=1 count=6 && zip -q0 disk.zip disk.raw',
    ],
  ])('show %s', async (_, options, whole, script) => {
    const scope = createScope();
    await createRaw(scope, 8);
    await inScope(scope, `dd if=disk.raw of=expected bs=1M skip=1 count=6`);
    await inScope(scope, `printf '1M,6M\\n' | sfdisk -q --no-reread disk.raw ${script}`);
    await inScope(scope, `split -b 3M -da3 ${whole} ${whole}.`);
    const disk = await mountDisk(scope, { server: [scope.path(`${whole}.000`)], options });
    expect(await hashOf(disk.file)).toBe(await hashOf(scope.path('expected')));
  });

  it('are joined below a compression and a format', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 8);
    await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    await inScope(
      scope,
      'split -b 3M -da3 disk.qcow2 disk.qcow2. && gzip -k disk.raw && split -b 20k -da3 disk.raw.gz disk.raw.gz.',
    );
    for (const name of ['disk.qcow2.000', 'disk.raw.gz.000']) {
      const disk = await mountDisk(scope, { server: [scope.path(name)] });
      expect(await hashOf(disk.file)).toBe(await hashOf(raw));
      expect(await disk.stop()).toBe(0);
    }
  });

  it.each([
    [
      'disk.raw.002',
      '',
      'disk.raw.002 is a part of disk.raw: name the first one, disk.raw.001, or use --format=raw to serve this file alone',
    ],
    [
      'disk.raw.001',
      'rm disk.raw.002',
      'the part after disk.raw.001 is missing: get it, or use --format=raw to serve the first part alone',
    ],
    [
      'disk.raw.001',
      'truncate -s 2M disk.raw.002',
      'disk.raw.002 has not the size of the first part: get it again, or join the parts with cat, or use --format=raw to serve this file alone',
    ],
    [
      'disk.raw.001',
      'ln -sf /etc/passwd disk.raw.002',
      'disk.raw.002 has the name of a part of the image, but is no plain file: rename it, or use --format=raw to serve the first part alone',
    ],
    [
      'disk.raw.01',
      'split -b 3M -d disk.raw disk.raw.',
      'disk.raw.01 is a part of disk.raw: name the first one, disk.raw.00, or use --format=raw to serve this file alone',
    ],
    [
      'disk.raw.01',
      'cp disk.raw disk.raw.01; cp disk.raw disk.raw.02',
      'disk.raw.01 is the first of 2 parts, or an old copy: join the parts with cat, or use --format=raw to serve this file alone',
    ],
  ])('%s is refused after: %s', async (name, script, message) => {
    const scope = createScope();
    await createDisk(scope);
    await inScope(scope, `${SPLIT} && ${script || true}`);
    expect((await refusal(scope, scope.path(name))).replaceAll(`${scope.folder}/`, '')).toBe(
      `nbdfuse: ${message}\n`,
    );
  });

  it('are one file with --format=raw, and where there is only one', async () => {
    const scope = createScope();
    await createDisk(scope);
    await inScope(scope, SPLIT);
    const part = await mountDisk(scope, {
      server: [scope.path('disk.raw.002')],
      options: ['-r', '--format=raw'],
    });
    expect(await hashOf(part.file)).toBe(await hashOf(scope.path('disk.raw.002')));
    expect(await part.stop()).toBe(0);
    for (const name of ['disk.raw.001', 'disk.raw.003']) rmSync(scope.path(name));
    const alone = await mountDisk(scope, { server: [scope.path('disk.raw.002')], options: ['-r'] });
    expect((await stat(alone.file)).size).toBe(readFileSync(scope.path('disk.raw.002')).length);
  });
});
