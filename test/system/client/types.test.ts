// The types of the library in programs with other settings than ours.

import { execFileSync } from 'node:child_process';
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { scratchFolder } from '../../support/cleanup.js';

const ROOT = join(import.meta.dirname, '../../..');

const PROGRAM = `
import { NbdClient, NbdError } from 'nbdfuse';
const client: NbdClient = await NbdClient.connect('nbd://localhost');
const bytes: Buffer = await client.read(0, 512);
try {
  await client.write(0n, bytes, { fua: true });
} catch (error) {
  if (error instanceof NbdError) console.log(error.code.length, error.errno);
}
`;

/** Checks a program with strict settings that also check the declarations of its packages. */
function check(lib: readonly string[], program: string): string {
  const folder = scratchFolder();
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'program.ts'), program);
  const compilerOptions = {
    target: 'es2022',
    lib,
    module: 'nodenext',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    paths: { nbdfuse: [join(ROOT, 'dist/index.d.ts')] },
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
  try {
    return execFileSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
  } catch (error) {
    return String((error as { stdout?: unknown }).stdout);
  }
}

test('types: are correct in a strict program whose lib has no disposables', () => {
  expect(check(['es2022'], PROGRAM)).toBe('');
}, 60_000);

test('types: allow await using where lib has disposables', () => {
  const using = PROGRAM.replace('const client: NbdClient', 'await using client');
  expect(check(['es2022', 'esnext.disposable'], using)).toBe('');
}, 60_000);
