// Images that nbdfuse refuses: headers in raw disks, images that name other files, and formats that it cannot
// serve, each with the line that names the next step.

import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { blockAt, convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz', 'zstd', 'setpriv', 'unshare');
requireRoot();

const SECRET = 'root:$6$secret:19000:0:99999:7:::\n';

/** Starts nbdfuse, which must refuse; returns its output. */
async function refusal(scope: Scope, words: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const program = startNbdfuse(scope, words, { program: { env } });
  expect(await program.ended).toBe(1);
  expect(program.stderr.split('\n')).toHaveLength(2);
  return program.stderr;
}

/**
 * A raw disk to whose first sectors a guest has written a qcow2 header with a file of the host as backing
 * file.
 */
async function plantedHeader(scope: Scope): Promise<{ disk: string; secret: string }> {
  mkdirSync(scope.path('etc'), { recursive: true });
  const secret = scope.path('etc/shadow');
  writeFileSync(secret, SECRET.repeat(100));
  const disk = createQcow2(scope.path('disk.img'), undefined, '-F', 'raw', '-b', secret);
  return { disk, secret };
}

describe('raw disk that begins like a qcow2, as a guest can write it', () => {
  it('is not opened as a qcow2', async () => {
    const scope = createScope();
    const { disk } = await plantedHeader(scope);
    expect(await refusal(scope, [scope.path('mnt'), disk])).toBe(
      'nbdfuse: disk.img looks like a qcow2 image, but its name does not say so, and a guest that writes to a raw ' +
        'disk can make it look like one: use --format=qcow2 if you trust it, or --format=raw\n',
    );
  });

  it('is served byte for byte with --format=raw', async () => {
    const scope = createScope();
    const { disk } = await plantedHeader(scope);
    const mounted = await mountDisk(scope, { server: [disk], options: ['-r', '--format=raw'] });
    expect(await hashOf(mounted.file)).toBe(await hashOf(disk));
  });

  it('is opened as a qcow2 with --format=qcow2 --allow-references, and a line names its files', async () => {
    const scope = createScope();
    const { disk, secret } = await plantedHeader(scope);
    const options = ['-r', '--format=qcow2'];
    expect(await refusal(scope, [...options, scope.path('mnt'), disk])).toMatch(
      /names the backing file \/\S*shadow, which is in another directory: if you trust the image, use --allow-references/,
    );
    const mounted = await mountDisk(scope, { server: [disk], options: [...options, '--allow-references'] });
    expect(mounted.stderr).toContain(`nbdfuse: ${disk} uses the backing file ${secret}\n`);
    expect((await readFile(mounted.file)).toString('utf8', 0, SECRET.length)).toBe(SECRET);
  });
});

describe('image that names another file', () => {
  it('elsewhere is refused without --allow-references', async () => {
    const scope = createScope();
    const { disk, secret } = await plantedHeader(scope);
    const image = scope.path('image.qcow2');
    copyFileSync(disk, image);
    expect(await refusal(scope, [scope.path('mnt'), image])).toBe(
      `nbdfuse: ${image} names the backing file ${secret}, which is in another directory: ` +
        'if you trust the image, use --allow-references\n',
    );
  });

  it('beside it is opened, with a line for the user', async () => {
    const scope = createScope();
    const base = await createRaw(scope, 1, 'base.raw');
    const image = createQcow2(scope.path('image.qcow2'), undefined, '-F', 'raw', '-b', 'base.raw');
    const mounted = await mountDisk(scope, { server: [image] });
    expect(mounted.stderr).toContain(`nbdfuse: ${image} uses the backing file base.raw\n`);
    expect(await hashOf(mounted.file)).toBe(await hashOf(base));
  });

  it('beside it is opened by an absolute path, as libvirt records it, also through a link', async () => {
    const scope = createScope();
    mkdirSync(scope.path('images'));
    symlinkSync(scope.path('images'), scope.path('pool'));
    const base = await createRaw(scope, 1, 'images/base.raw');
    for (const backing of [base, scope.path('pool/base.raw'), '../images/base.raw']) {
      const image = scope.path('images/image.qcow2');
      await runProgram(
        'qemu-img',
        'create',
        '-q',
        '-u',
        '-f',
        'qcow2',
        '-F',
        'raw',
        '-b',
        backing,
        image,
        '1M',
      );
      const mounted = await mountDisk(scope, { server: [image] });
      expect(await hashOf(mounted.file)).toBe(await hashOf(base));
      expect(await mounted.stop()).toBe(0);
    }
  });

  it('without its format in a qcow or qed names no command that cannot record it', async () => {
    const scope = createScope();
    await createRaw(scope, 1, 'base.raw');
    const image = scope.path('image.qcow');
    await runProgram(
      'qemu-img',
      'create',
      '-q',
      '-u',
      '-f',
      'qcow',
      '-F',
      'raw',
      '-b',
      'base.raw',
      image,
      '1M',
    );
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /base\.raw, whose format is not recorded: if you trust the image, use --allow-references\n$/,
    );
  });

  it('beside it that is a link to elsewhere, or names another file, is refused', async () => {
    const scope = createScope();
    const { secret } = await plantedHeader(scope);
    mkdirSync(scope.path('images'));
    symlinkSync(secret, scope.path('images/base.raw'));
    const create = (backing: string, format: string, name: string): Promise<string> =>
      runProgram(
        'env',
        '-C',
        scope.path('images'),
        'qemu-img',
        ...['create', '-q', '-f', 'qcow2', '-F', format, '-b', backing, name],
      );
    await create('base.raw', 'raw', 'one.qcow2');
    await create('one.qcow2', 'qcow2', 'two.qcow2');
    for (const name of ['one.qcow2', 'two.qcow2']) {
      const said = await refusal(scope, [scope.path('mnt'), scope.path('images', name)]);
      expect(said).toMatch(
        /images\/one\.qcow2 names the backing file base\.raw, which is a link to another directory/,
      );
    }
  });

  it('that leads back to the image is refused', async () => {
    const scope = createScope();
    for (const [name, backing] of [
      ['one.qcow2', 'two.qcow2'],
      ['two.qcow2', './one.qcow2'],
    ] as const)
      createQcow2(scope.path(name), '1M', '-u', '-F', 'qcow2', '-b', backing);
    for (const options of [[], ['--allow-references']])
      expect(await refusal(scope, [...options, scope.path('mnt'), scope.path('one.qcow2')])).toMatch(
        /two\.qcow2 names the backing file \.\/one\.qcow2, which needs this image itself: name the right file with /,
      );
  });

  it('without its format is refused, since QEMU would guess it', async () => {
    const scope = createScope();
    await createRaw(scope, 1, 'base.raw');
    const image = createQcow2(scope.path('image.qcow2'), '1M', '-u', '-b', 'base.raw', '-F', 'raw');
    // qemu-img insists on a format; older ones did not.
    const bytes = await readFile(image);
    bytes.writeUInt32BE(0x0000_1234, bytes.indexOf(Buffer.from('e2792aca', 'hex')));
    writeFileSync(image, bytes);
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /names the backing file base\.raw, whose format is not recorded: record it with qemu-img rebase -u -F FORMAT -b base\.raw /,
    );
  });

  it('in a format that QEMU reads otherwise, or a pipe, is refused', async () => {
    const scope = createScope();
    const { disk } = await plantedHeader(scope);
    copyFileSync(disk, scope.path('base.img'));
    const image = createQcow2(scope.path('image.qcow2'), '1M', '-u', '-F', 'qcow2', '-b', 'base.img');
    const bytes = await readFile(image);
    const extension = bytes.indexOf(Buffer.from('e2792aca', 'hex'));
    // `qcow2` and a NUL: the same word for QEMU.
    bytes.writeUInt32BE(6, extension + 4);
    writeFileSync(image, bytes);
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /base\.img names the backing file \/\S*shadow, which is in another directory/,
    );
    bytes.write('vvfat\0', extension + 8);
    writeFileSync(image, bytes);
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /whose format vvfat is unknown to nbdfuse/,
    );
    bytes.write('qcow2\0', extension + 8);
    writeFileSync(image, bytes);
    await runProgram('rm', scope.path('base.img'));
    await runProgram('mkfifo', scope.path('base.img'));
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /base\.img, which is not a regular file/,
    );
  });

  it('as an extent of an extent of a vmdk is refused', async () => {
    const scope = createScope();
    const { secret } = await plantedHeader(scope);
    const text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n';
    const type = 'createType="twoGbMaxExtentSparse"\n';
    const inner = Buffer.alloc(2048);
    inner.write('KDMV\x01');
    inner.writeBigUInt64LE(1n, 28); // the descriptor's sector; the capacity is 0
    inner.write(`${text}createType="monolithicFlat"\nRW +4FLAT "${secret}" 0\n`, 512);
    writeFileSync(scope.path('inner.vmdk'), inner);
    const image = scope.path('disk.vmdk');
    writeFileSync(image, `${text}${type}RW 4 SPARSE "inner.vmdk"\n`);
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /inner\.vmdk is a descriptor that names other files, not a disk: convert it to a single file/,
    );
  });

  it('as an extent of a vmdk is refused', async () => {
    const scope = createScope();
    const { secret } = await plantedHeader(scope);
    const image = scope.path('disk.vmdk');
    writeFileSync(
      image,
      `# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 4 FLAT "${secret}" 0\n`,
    );
    expect(await refusal(scope, [scope.path('mnt'), image])).toMatch(
      /names the extent \/\S*shadow, which is in another directory/,
    );
  });
});

describe('image errors take one line', () => {
  it.each<[string, (scope: Scope) => Promise<readonly string[]>, RegExp]>([
    [
      'there is no file',
      async () => ['none.raw'],
      /^nbdfuse: there is no file none\.raw; for an NBD server, use nbd:\/\/HOST\n/,
    ],
    ['a host is no file', async () => ['host:10809'], /for an NBD server, use nbd:\/\/host:10809\n/],
    [
      'a folder is no image',
      async (scope) => [scope.folder],
      /^nbdfuse: \S+ is a directory, not an image: name a file, a block device or a URL\n/,
    ],
    [
      'a folder of images is no image',
      async (scope) => {
        for (const name of ['b.img', 'a.qcow2', 'notes.txt']) writeFileSync(scope.path(name), '');
        return [scope.folder];
      },
      /^nbdfuse: \S+ is a directory, not an image: name a file in it, as \S+\/a\.qcow2, \S+\/b\.img\n/,
    ],
    [
      'a file of the kernel is no image',
      async () => ['/proc/version'],
      /^nbdfuse: \/proc\/version has no size, as the files of \/proc: copy it first, and mount the copy\n/,
    ],
    [
      'a device of characters is no image',
      async () => ['/dev/null'],
      /^nbdfuse: \/dev\/null is neither a file nor a block device: name one, or copy the bytes into a file first\n/,
    ],
    [
      'a scheme is not known',
      async () => ['gopher://host/disk'],
      /^nbdfuse: gopher:\/\/host\/disk: the scheme gopher is unknown; /,
    ],
    [
      'an option of images needs one',
      async () => ['--overlay', '--unix', '/s'],
      /^nbdfuse: --overlay needs an image/,
    ],
    [
      'a format does not fit the name',
      async (scope) => [await createRaw(scope, 1, 'disk.qcow2')],
      /^nbdfuse: disk\.qcow2 should be a qcow2 image, but does not look like one: use --format=raw if/,
    ],
    [
      'a compression does not fit the name',
      async (scope) => [await createRaw(scope, 1, 'disk.xz')],
      /^nbdfuse: disk\.xz should be compressed with xz, but does not look like it: get it again, /,
    ],
    [
      'a format is not known',
      async () => ['--format=zip', 'disk'],
      /^nbdfuse: --format zip: must be one of raw, /,
    ],
    [
      'a throw-away overlay does not survive a restart',
      async () => ['--overlay', '--restart', 'disk'],
      /^nbdfuse: --restart would lose the writes in the temporary overlay: keep them with --overlay=FILE\n/,
    ],
  ])('%s', async (_, words, message) => {
    const scope = createScope();
    const all = await words(scope);
    const options = all.filter((word) => /^--(overlay|format|restart)/.test(word));
    const rest = all.slice(options.length);
    expect(await refusal(scope, [...options, scope.path('mnt'), ...rest])).toMatch(message);
  });

  it('an image that another mount writes to is locked', async () => {
    const scope = createScope();
    const image = await convertTo(scope, await createRaw(scope, 1), 'qcow2', 'disk.qcow2');
    await mountDisk(scope, { server: [image] });
    mkdirSync(scope.path('second'));
    const program = startNbdfuse(scope, [scope.path('second'), image]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe(
      `nbdfuse: ${image} is in use by another nbdfuse: end that first, or use --share to look at the image meanwhile\n`,
    );
  });
});

describe('missing programs are named with their packages', () => {
  it.each<[string, (scope: Scope) => Promise<string>, RegExp]>([
    [
      'qemu-nbd',
      async (scope) => convertTo(scope, await createRaw(scope, 1), 'qcow2', 'disk.qcow2'),
      /^nbdfuse: \S+ needs qemu-nbd, which is not in PATH: apt-get install qemu-utils\n/,
    ],
    [
      'nbdkit',
      async () => 'https://host/disk.img',
      /needs nbdkit, which is not in PATH: apt-get install nbdkit\n/,
    ],
  ])('%s', async (_, create, message) => {
    const scope = createScope();
    const image = await create(scope);
    expect(await refusal(scope, [scope.path('mnt'), image], { PATH: scope.folder })).toMatch(message);
  });

  it('the library for zstd', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    await runProgram('zstd', '-q', raw);
    const libraries = (await runProgram('ldconfig', '-p')).split('\n');
    const path = libraries.find((line) => line.includes('libzstd.so.1 '))?.split(' => ')[1] ?? '';
    writeFileSync(scope.path('nothing'), '');
    // The mounts of other tests are in the namespace, too.
    const script = 'umount -a -i -l -t fuse.nbdfuse; mount --bind "$0" "$1"; shift; exec "$@"';
    const prefix = [
      'unshare',
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      script,
      scope.path('nothing'),
      path,
    ];
    const program = startNbdfuse(scope, [scope.path('mnt'), `${raw}.zst`], { prefix });
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe(
      `nbdfuse: cannot decode ${raw}.zst (zstd): the library libzstd.so.1 is missing: apt-get install libzstd1\n`,
    );
  });

  it('a raw image needs only nbdkit', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    mkdirSync(scope.path('bin'));
    for (const name of ['nbdkit', 'sh', 'umount', 'fusermount3']) {
      const path = (await runProgram('sh', '-c', 'command -v "$0"', name)).trim();
      symlinkSync(path, scope.path('bin', name));
    }
    const program = { env: { PATH: scope.path('bin') } };
    const disk = await mountDisk(scope, { server: [raw], program });
    expect(disk.stderr).toBe(`nbdfuse: ${raw} is raw; serving it with nbdkit\n`);
    expect(await blockAt(disk.file, 4096)).toBe(1);
  });
});

it.each(['raw.xz', 'xz', 'gz', 'simg'])(
  'export of an NBD server: is not mounted raw where --format=%s asks for its contents',
  async (format) => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    await runProgram('xz', '--keep', raw);
    const server = await startNbdkit(scope, 'file', `${raw}.xz`);
    mkdirSync(scope.path('mnt'));
    expect(await refusal(scope, ['-r', `--format=${format}`, scope.path('mnt'), server.uri()])).toBe(
      'nbdfuse: --format: nbdfuse does not decompress the export of an NBD server: ' +
        'let the server do it (nbdkit has filters for xz and gzip), or unpack the file first\n',
    );
  },
);

it('image without write permission: is mounted read-only', async () => {
  const scope = createScope();
  admitNormalUser(scope);
  const raw = await createRaw(scope, 1);
  chmodSync(raw, 0o444);
  await runProgram('setpriv', ...AS_NORMAL_USER.slice(1), 'mkdir', scope.path('mnt'));
  const disk = await mountDisk(scope, { server: [raw], prefix: AS_NORMAL_USER });
  expect(disk.stderr).toContain(`nbdfuse: ${raw} is not writable: the mounted file is read-only\n`);
  const options = await runProgram('cat', '/proc/mounts');
  expect(options).toMatch(new RegExp(`${disk.mountpoint} fuse\\S* ro,`));
  expect(await disk.stop()).toBe(0);
});
