// The package as a user gets it: packed by npm, installed from the tarball, and used.

import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, normalize } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'fusermount3');

const ROOT = join(import.meta.dirname, '../../..');
const TSC = join(ROOT, 'node_modules/.bin/tsc');
const INSTALL = ['npm', 'install', '--no-audit', '--no-fund', '--prefer-offline'];
/** The command that installs the library in a project, as its page has it. */
const [, INSTALL_LIBRARY = ''] =
  /^## Install it in a project$[\s\S]*?^```sh\n(npm install .*)\n```$/m.exec(
    readFileSync(join(ROOT, 'docs/reference/library.md'), 'utf8'),
  ) ?? [];

let folder: string;
let tarball: string;
/** The paths in the tarball, without `package/`. */
let packed: string[];

/** The output of a command; its error has all of it, as tsc reports to standard output. */
function run(argv: readonly string[], cwd: string): string {
  try {
    return execFileSync(argv[0], argv.slice(1), { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${argv.join(' ')}:\n${stdout}\n${stderr}`);
  }
}

function project(name: string, files: Readonly<Record<string, string>>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  return path;
}

const USE = `
import { connectMany, NbdClient, NbdServerError, openServer, parseNbdUri, type ExportInfo } from 'nbdfuse';

const client: NbdClient = await NbdClient.connect({ socketActivation: ['nbdkit', 'memory', '2M'] });
const size: bigint = client.size;
const bytes: Uint8Array = await client.read(0n, 512);
await client.close();
console.log(size, bytes.length);
export type Names = [typeof connectMany, typeof NbdServerError, typeof openServer, typeof parseNbdUri, ExportInfo];
`;

/** The strictest options of TypeScript that concern the types of a package. */
const STRICT = {
  target: 'es2022',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdfuse-package-'));
  const said = run(['npm', 'pack', '--ignore-scripts', '--pack-destination', folder], ROOT);
  tarball = join(folder, said.trim().split('\n').at(-1) ?? '');
  packed = run(['tar', '-tf', tarball], folder)
    .trim()
    .split('\n')
    .map((path) => path.replace(/^package\//, ''));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('npm package', () => {
  it('installs globally and mounts a file', () => {
    run([...INSTALL, '--global', '--prefix', folder, tarball], folder);
    // Made at the installation, for the installed node.
    const caches = readdirSync(join(folder, 'lib/node_modules/nbdfuse/dist/program'));
    expect(caches).toContain(`main.body.js.${process.version}-${process.arch}.cache`);

    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const program = join(folder, 'bin/nbdfuse');
    expect(run([program, '--version'], folder)).toBe(`nbdfuse ${version}\n`);
    const script = `
      set -e
      mkdir dir
      ${program} --daemon dir/disk.raw [ nbdkit memory 1M ]
      stat -c %s dir/disk.raw
      ${program} --unmount dir`;
    expect(run(['bash', '-c', script], folder)).toBe('1048576\n');
  }, 180_000);

  it('works in an empty project, as plain ESM and in strict TypeScript with each kind of module', () => {
    const path = project('empty', {
      'package.json': '{ "private": true, "type": "module" }',
      'use.ts': USE,
      'use.mjs': USE.replace(/, type \w+/g, '').replace(/^export type.*|: \w+(?= =)/gm, ''),
    });
    copyFileSync(tarball, join(path, basename(tarball)));
    run(['bash', '-c', `${INSTALL_LIBRARY} --no-audit --no-fund --prefer-offline`], path);
    expect(run(['node', 'use.mjs'], path)).toBe('2097152n 512\n');
    for (const [module, resolution] of [
      ['node16', 'node16'],
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ]) {
      const compilerOptions = { ...STRICT, module, moduleResolution: resolution, outDir: module };
      writeFileSync(join(path, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }));
      run([TSC, '-p', '.'], path);
      expect(run(['node', `${module}/use.js`], path)).toBe('2097152n 512\n');
    }
  }, 180_000);

  it('has the files that its own files import or link to, and no others', () => {
    const text = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
    const code = packed.filter((path) => /^dist\/(?!program\/).*\.(js|d\.ts)$/.test(path));
    const imports = code.flatMap((path) =>
      [...text(path).matchAll(/(?:from |import |import\()'(\.[^']+)'/g)].map(([, target]) =>
        normalize(join(dirname(path), target)),
      ),
    );
    const pages = packed.filter((path) => path.endsWith('.md') && !path.startsWith('docs/reference/api/'));
    const links = pages.flatMap((path) =>
      [...text(path).matchAll(/\]\((?!\w+:|#)([^)#\s]+)/g)].map(([, target]) =>
        normalize(join(dirname(path), target)),
      ),
    );
    const isThere = (path: string): boolean =>
      packed.some((name) => name === path || name.startsWith(`${path}/`));
    expect(imports.length).toBeGreaterThan(100);
    expect([...imports, ...links].filter((path) => !isThere(path))).toEqual([]);
    expect(
      packed.filter((path) => /\.cache$|^(test|tools|src)\/|tsbuildinfo|node_modules/.test(path)),
    ).toEqual([]);
    // The library, its types, the documents and what install-system needs.
    expect(packed.length).toBeLessThan(600);
  });

  it('satisfies publint and attw', () => {
    expect(run(['bash', join(ROOT, 'scripts/npm-package/check'), tarball], folder)).toMatch(/All good!/);
  }, 180_000);
});
