// The package as a user gets it: packed, installed globally into an empty folder, and run.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const run = (argv: readonly string[], cwd: string): string =>
  execFileSync(argv[0], argv.slice(1), { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

test('package: installs globally, mounts a file, and contains the library with its types', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-package-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const root = join(import.meta.dirname, '../../..');
  const said = run(['npm', 'pack', '--ignore-scripts', '--pack-destination', folder], root);
  const packed = said.trim().split('\n').at(-1) ?? '';
  run(
    ['npm', 'install', '--global', '--prefix', folder, '--no-audit', '--no-fund', join(folder, packed)],
    folder,
  );

  const inside = run(['tar', '-tf', packed], folder).split('\n');
  expect(inside.filter((name) => /\.cache$|^package\/(test|tools|src)\//.test(name))).toEqual([]);
  // Made at the installation, for the installed node.
  const caches = readdirSync(join(folder, 'lib', 'node_modules', 'nbdfuse', 'dist', 'program'));
  expect(caches).toContain(`main.body.js.${process.version}-${process.arch}.cache`);

  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const program = join(folder, 'bin', 'nbdfuse');
  expect(run([program, '--version'], folder)).toBe(`nbdfuse ${version}\n`);

  const script = `
    set -e
    mkdir dir
    ${program} -P ready dir [ nbdkit memory 1M ] &
    while [ ! -s ready ]; do kill -0 $!; sleep 0.05; done
    stat -c %s dir/nbd
    fusermount3 -u dir
    wait $!`;
  expect(run(['bash', '-c', script], folder)).toBe('1048576\n');

  const uses = join(folder, 'lib', 'use.mjs');
  writeFileSync(
    uses,
    `import { NbdClient } from 'nbdfuse';
     const client = await NbdClient.connect({ socketActivation: ['nbdkit', 'memory', '2M'] });
     console.log(client.size);
     await client.close();`,
  );
  expect(run(['node', uses], join(folder, 'lib'))).toBe('2097152n\n');
  expect(
    readFileSync(join(folder, 'lib', 'node_modules', 'nbdfuse', 'dist', 'index.d.ts'), 'utf8'),
  ).toContain('NbdClient');
}, 180_000);
