import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { scratchFolder } from '../../support/cleanup.js';
import { createQcow2 } from '../../support/run/images.js';

const root = resolve(import.meta.dirname, '../../..');

/** The TypeScript that follows the marker `<!-- example: NAME -->` in a document. */
function example(document: string, name: string): string {
  const text = readFileSync(join(root, document), 'utf8');
  const code = new RegExp(`<!-- example: ${name} -->\\n\`\`\`ts\\n([^]*?)\`\`\``).exec(text)?.[1];
  if (code === undefined) throw new Error(`${document} has no example ${name}`);
  return code;
}

/** Compiles the library and the example as a user of the package would have them. */
function compile(folder: string, code: string): string {
  const tsc = join(root, 'node_modules/.bin/tsc');
  const options = [
    '--module',
    'nodenext',
    '--target',
    'es2023',
    '--lib',
    'es2023',
    '--skipLibCheck',
    '--strict',
  ];
  const common = [
    ...options,
    '--types',
    'node',
    '--typeRoots',
    join(root, 'node_modules/@types'),
    '--ignoreConfig',
  ];
  const packed = join(folder, 'node_modules/nbdfuse');
  mkdirSync(packed, { recursive: true });
  for (const name of ['koffi', '@types', 'undici-types']) {
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(join(packed, 'package.json'), readFileSync(join(root, 'package.json')));
  const library = ['--declaration', '--rootDir', join(root, 'src'), '--outDir', join(packed, 'dist')];
  execFileSync(tsc, [...common, ...library, join(root, 'src/index.ts')], { cwd: root, stdio: 'inherit' });
  writeFileSync(join(folder, 'example.ts'), code);
  execFileSync(tsc, [...common, '--outDir', folder, 'example.ts'], { cwd: folder, stdio: 'inherit' });
  return join(folder, 'example.js');
}

test('example of the library page: opens an image by its name', () => {
  const folder = scratchFolder();
  const program = compile(folder, example('docs/reference/library.md', 'open-image'));
  symlinkSync(join(root, 'bin'), join(folder, 'node_modules/nbdfuse/bin'));
  symlinkSync(join(root, 'packaging'), join(folder, 'node_modules/nbdfuse/packaging'));
  const disk = createQcow2(join(folder, 'disk.qcow2'), '4M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0xab 0 512', disk], { stdio: 'ignore' });
  const output = execFileSync(process.execPath, [program, disk], { encoding: 'utf8' });
  expect(output).toBe(`${disk} is qcow2; serving it with qemu-nbd\n4194304 bytes\nabab\n`);
});

test('example of the library page: several clients of one server', () => {
  const folder = scratchFolder();
  const program = compile(folder, example('docs/reference/library.md', 'open-server'));
  const disk = createQcow2(join(folder, 'disk.qcow2'), '4M');
  expect(execFileSync(process.execPath, [program, disk], { encoding: 'utf8' })).toBe('shared\n');
  // The server has ended: it would lock the image.
  expect(execFileSync('qemu-img', ['check', disk], { encoding: 'utf8' })).toContain('No errors were found');
});

test('example of the library page: edits a qcow2 file, reads its snapshot, and leaves nothing running', () => {
  const folder = scratchFolder();
  const program = compile(folder, example('docs/reference/library.md', 'edit-qcow2'));
  const disk = createQcow2(join(folder, 'disk.qcow2'), '300M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0xab 0 2M', disk], { stdio: 'ignore' });
  execFileSync('qemu-img', ['snapshot', '-c', 'first', disk]);

  const output = execFileSync(process.execPath, [program, disk, 'first'], { encoding: 'utf8' });

  expect(output.split('\n')).toEqual([
    'virtual size: 314572800',
    `before: ${'ab'.repeat(16)}`,
    'after: Hello from Node!',
    `in snapshot first: ${'ab'.repeat(16)}`,
    '',
  ]);
  // qemu-nbd is gone, or the image would be locked; it contains the written bytes.
  expect(execFileSync('qemu-img', ['check', disk], { encoding: 'utf8' })).toContain('No errors were found');
  const raw = join(folder, 'disk.raw');
  execFileSync('qemu-img', ['convert', '-O', 'raw', disk, raw]);
  expect(readFileSync(raw).subarray(1_000_000, 1_000_016).toString()).toBe('Hello from Node!');
});
