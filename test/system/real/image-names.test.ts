// The names in headers: QEMU opens only the files that nbdfuse has checked, and follows no name in a header.
// strace shows which files it opens.

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { blockAt, blockOf, convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'strace');

const SECRET = 'the bytes of a file that the image has no business with\n'.repeat(100);

/** Runs qemu-img in the scope's folder. */
function qemuImg(scope: Scope, ...words: readonly string[]): Promise<string> {
  return runProgram('env', '-C', scope.folder, 'qemu-img', ...words);
}

/** Starts nbdfuse on an image, which it must refuse; returns the line. */
async function refusal(scope: Scope, ...words: readonly string[]): Promise<string> {
  const options = words.slice(0, -1);
  const program = startNbdfuse(scope, [...options, scope.path('mnt'), ...words.slice(-1)]);
  expect(await program.ended).toBe(1);
  expect(program.stderr.split('\n')).toHaveLength(2);
  return program.stderr;
}

describe('data file of a qcow2', () => {
  it('in the current directory is neither opened nor written', async () => {
    const scope = createScope();
    for (const name of ['home', 'images']) mkdirSync(scope.path(name));
    writeFileSync(scope.path('home/.bashrc'), SECRET);
    writeFileSync(scope.path('home/data.raw'), SECRET);
    const make = (name: string, data: string): Promise<string> =>
      runProgram(
        ...(['env', '-C', scope.path('images'), 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o'] as const),
        ...[`data_file=${data},data_file_raw=on`, name, '1M'],
      );
    await make('a.qcow2', '.bashrc');
    await make('b.qcow2', 'data.raw');
    await runProgram('rm', scope.path('images/.bashrc'));
    const prefix = ['env', '-C', scope.path('home')];
    const program = startNbdfuse(scope, [scope.path('mnt'), '../images/a.qcow2'], { prefix });
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/names the data file \.bashrc, which is a hidden file: if you trust/);
    const trusted = startNbdfuse(scope, ['--allow-references', scope.path('mnt'), '../images/a.qcow2'], {
      prefix,
    });
    expect(await trusted.ended).toBe(1);
    expect(trusted.stderr).toMatch(
      /names the data file \.bashrc, which does not exist: put it into the directory of the image\n/,
    );
    const disk = await mountDisk(scope, { server: ['../images/b.qcow2'], prefix });
    await writeAt(disk.file, Buffer.from('written'), 4096);
    expect(await disk.stop()).toBe(0);
    expect((await readAt(scope.path('images/data.raw'), 4096, 7)).toString()).toBe('written');
    for (const name of ['home/.bashrc', 'home/data.raw']) {
      expect((await readFile(scope.path(name))).toString()).toBe(SECRET);
    }
  });

  it('of a backing file lies beside that backing file', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    await qemuImg(scope, 'convert', '-O', 'qcow2', '-o', 'data_file=data.raw', raw, 'base.qcow2');
    await qemuImg(scope, 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base.qcow2', 'top.qcow2');
    const disk = await mountDisk(scope, { server: [scope.path('top.qcow2')] });
    expect(disk.stderr).toContain(`${scope.path('base.qcow2')} uses the data file data.raw\n`);
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });
});

describe('file name that is not UTF-8', () => {
  /** A link with such a name to a secret, beside a VMDK that names it. */
  function plant(scope: Scope): string {
    const name = Buffer.from('s\xe9cret', 'latin1');
    writeFileSync(scope.path('secret'), SECRET);
    mkdirSync(scope.path('images'));
    symlinkSync('../secret', Buffer.concat([Buffer.from(`${scope.path('images')}/`), name]));
    // The file that would be opened if the name were decoded with a replacement.
    symlinkSync('../secret', scope.path('images/s\ufffdcret'));
    return scope.path('images/disk.vmdk');
  }

  it('is refused as an extent, with and without --format', async () => {
    const scope = createScope();
    const image = plant(scope);
    const text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n';
    writeFileSync(image, Buffer.from(`${text}RW 4 FLAT "s\xe9cret" 0\n`, 'latin1'));
    for (const options of [[], ['--format=vmdk']]) {
      expect(await refusal(scope, ...options, image)).toMatch(
        /disk\.vmdk names the extent, whose name cannot be read: convert it to a single file/,
      );
    }
  });

  it('is refused as a backing file and as the directory of the image', async () => {
    const scope = createScope();
    plant(scope);
    const image = scope.path('images/disk.qcow2');
    await qemuImg(scope, ...'create -q -u -f qcow2 -F raw -b XXcret'.split(' '), image, '1M');
    const bytes = await readFile(image);
    bytes.write('s\xe9', bytes.indexOf('XXcret'), 'latin1');
    writeFileSync(image, bytes);
    expect(await refusal(scope, image)).toMatch(/names the backing file, whose name cannot be read/);
    const script = `mkdir -p "$1"/$(printf 'f\\351'); cd "$1"/f*; cp ../disk.qcow2 .; exec "$2" "$3" "$1" disk.qcow2`;
    await qemuImg(scope, 'create', '-q', '-f', 'qcow2', 'disk.qcow2', '1M');
    const words = ['-c', script, 'sh', scope.folder, process.execPath, NBDFUSE];
    const program = new Program(scope, 'sh', words);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/^nbdfuse: \S*\/f\ufffd\/disk\.qcow2: the name is not UTF-8: rename/);
  });
});

describe('name of no file in an image is refused even with --allow-references', () => {
  it.each(['nbd:unix:/x', 'json:{"driver":"null-co"}', 'file:base.raw', 'ssh://h/x', 'fat:rw:/etc'])(
    '%s',
    async (name) => {
      const scope = createScope();
      const image = scope.path('disk.qcow2');
      await qemuImg(scope, 'create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', name, image, '1M');
      for (const options of [[], ['--allow-references']]) {
        expect(await refusal(scope, ...options, image)).toMatch(
          /, which is not the name of a file: convert it/,
        );
      }
    },
  );

  it('the name of a missing file', async () => {
    const scope = createScope();
    const image = scope.path('disk.qcow2');
    await qemuImg(scope, 'create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', 'gone.raw', image, '1M');
    expect(await refusal(scope, image)).toMatch(
      /file gone\.raw, which does not exist: put it into the directory of the image\n$/,
    );
  });

  it('a differencing VHD, whose gaps QEMU would fill with zeros', async () => {
    const scope = createScope();
    const image = await convertTo(scope, await createRaw(scope, 1), 'vpc', 'disk.vhd');
    const bytes = await readFile(image);
    bytes.writeUInt32BE(4, 60);
    writeFileSync(image, bytes);
    expect(await refusal(scope, '--format=vhd', image)).toMatch(
      /disk\.vhd holds only the differences from its parent, which QEMU does not open: make one disk of both/,
    );
  });
});

/** Makes a disk that consists of several files; its first block is in the lowest. */
type Make = (scope: Scope, raw: string) => Promise<{ image: string; name: string; files: readonly string[] }>;

function chain(format: string, top: string, base: string, baseFormat = format): Make {
  return async (scope, raw) => {
    await qemuImg(scope, 'convert', '-O', baseFormat, raw, base);
    await qemuImg(scope, 'create', '-q', '-f', format, '-F', baseFormat, '-b', base, top);
    return { image: scope.path(top), name: base, files: [top, base] };
  };
}

/** The images to make, and how many files of each have a name in a header that can be changed. */
const KINDS: readonly (readonly [string, Make])[] = [
  ['a qcow2 over a raw file', chain('qcow2', 'top.qcow2', 'base.raw', 'raw')],
  ['a qcow2 over a qcow2', chain('qcow2', 'top.qcow2', 'base.img', 'qcow2')],
  ['a qed', chain('qed', 'top.qed', 'base.raw', 'raw')],
  ['a vmdk over a vmdk', chain('vmdk', 'top.vmdk', 'base.vmdk')],
  [
    'a qcow2 with a data file',
    async (scope, raw) => {
      await qemuImg(scope, 'convert', '-O', 'qcow2', '-o', 'data_file=data.raw', raw, 'disk.qcow2');
      return { image: scope.path('disk.qcow2'), name: 'data.raw', files: ['disk.qcow2', 'data.raw'] };
    },
  ],
  ...['monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'].map((type): readonly [string, Make] => [
    `a vmdk of ${type}`,
    async (scope, raw) => {
      await qemuImg(scope, 'convert', '-O', 'vmdk', '-o', `subformat=${type}`, raw, 'disk.vmdk');
      const name = { monolithicFlat: 'disk-flat.vmdk', twoGbMaxExtentFlat: 'disk-f001.vmdk' }[type];
      return {
        image: scope.path('disk.vmdk'),
        name: name ?? 'disk-s001.vmdk',
        files: [name ?? 'disk-s001.vmdk'],
      };
    },
  ]),
];

describe.each(KINDS)('image tree: %s', (_, make) => {
  it('reads and writes; an overlay leaves it unchanged', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1, 'source.raw');
    const { image, files } = await make(scope, raw);
    const before = await Promise.all([...files.map((name) => scope.path(name)), image].map(hashOf));
    for (const overlay of ['--overlay', `--overlay=${scope.path('kept.qcow2')}`]) {
      const over = await mountDisk(scope, { server: [image], options: [overlay] });
      expect(await hashOf(over.file)).toBe(await hashOf(raw));
      await writeAt(over.file, Buffer.from('over it'), 8192);
      expect((await readAt(over.file, 8192, 7)).toString()).toBe('over it');
      expect(await over.stop()).toBe(0);
    }
    expect(await Promise.all([...files.map((name) => scope.path(name)), image].map(hashOf))).toEqual(before);
    const disk = await mountDisk(scope, { server: [image] });
    await writeAt(disk.file, blockOf(200), 4096);
    expect(await disk.stop()).toBe(0);
    const again = await mountDisk(scope, { server: [image], options: ['-r'] });
    expect([await blockAt(again.file, 4096), await blockAt(again.file, 8192)]).toEqual([200, 2]);
  });

  it('stays with its own files although its header changes after the check', async () => {
    const scope = createScope();
    const { image, name, files } = await make(scope, await createRaw(scope, 1, 'source.raw'));
    const printed = startNbdfuse(scope, ['--print-command', '-r', '-P', 'pid', 'mnt', image]);
    expect(await printed.ended).toBe(0);
    const bait = name.replace(/^.../, 'BAI');
    const bytes = await readFile(image);
    for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at)) bytes.write(bait, at);
    writeFileSync(image, bytes);
    writeFileSync(scope.path(bait), SECRET.repeat(1000));
    mkdirSync(scope.path('mnt'));
    const line = printed.stdout.trimEnd().replace(/^nbdfuse /, '');
    const trace = 'exec strace -D -f -o trace -e trace=open,openat,openat2 "$0" "$1"';
    const words = ['-C', scope.folder, 'sh', '-c', `${trace} ${line}`, process.execPath, NBDFUSE];
    const program = new Program(scope, 'env', words);
    await program.fills(scope.path('pid'));
    expect(await blockAt(scope.path('mnt/nbd'), 8192)).toBe(2);
    expect(await program.kill('SIGTERM')).toBe(0);
    const opened = (await readFile(scope.path('trace'))).toString();
    for (const file of files) expect(opened).toContain(`"${scope.path(file)}"`);
    expect(opened).not.toContain(bait);
    // Only nbdfuse reads a descriptor.
    if (!files.includes('disk.vmdk')) expect(opened).not.toContain('"disk.vmdk"');
  });
});

it('image tree: a chain of many levels opens as checked', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 1, 'l0.raw');
  for (let level = 1; level <= 6; level++) {
    const format = level === 1 ? 'raw' : 'qcow2';
    const below = level === 1 ? 'l0.raw' : `l${level - 1}.qcow2`;
    await qemuImg(scope, 'create', '-q', '-f', 'qcow2', '-F', format, '-b', below, `l${level}.qcow2`);
  }
  const disk = await mountDisk(scope, { server: [scope.path('l6.qcow2')] });
  expect(disk.stderr.match(/uses the backing file/g)).toHaveLength(6);
  expect(await hashOf(disk.file)).toBe(await hashOf(raw));
});

it('image messages: bytes of a header that the server repeats do not reach the terminal', async () => {
  const scope = createScope();
  const image = scope.path('disk.qcow2');
  const name = '\x1b]0;owned\x07\x1b[2J.raw';
  writeFileSync(scope.path(name), 'x');
  await qemuImg(scope, 'create', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', name, image, '1M');
  mkdirSync(scope.path('mnt'));
  for (const options of [['-v'], [], ['--print-command'], ['-v', '--allow-references']]) {
    const program = startNbdfuse(scope, [...options, scope.path('mnt'), image]);
    expect(await program.ended).toBe(options.includes('--print-command') ? 0 : 1);
    expect(program.stderr + program.stdout).toContain('owned');
    expect((program.stderr + program.stdout).replaceAll(/[\n\t]/g, '')).not.toMatch(/\p{Cc}/u);
  }
});
