// Builds one TypeScript program of the tests, with its imports, into a scope's folder.
//
// For programs that must run as separate processes or threads, possibly as another user: the directory
// contains everything that they need, with native code.

import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import type { Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';

const ROOT = resolve(import.meta.dirname, '../../..');

/** The packages of koffi at run time. */
const PACKAGES = ['koffi', '@koromix'];

/**
 * Builds `entry` and returns the path of its JavaScript. @param others files that it loads without an import
 * @throws Error with the compiler's messages
 */
export async function buildProgram(
  scope: Scope,
  entry: string,
  others: readonly string[] = [],
): Promise<string> {
  const folder = scope.path('built');
  mkdirSync(folder);
  chmodSync(scope.folder, 0o755);
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      noEmit: false,
      rootDir: ROOT,
      outDir: folder,
      types: ['node'],
      typeRoots: [join(ROOT, 'node_modules/@types')],
    },
    include: [],
    files: [entry, ...others],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  for (const name of PACKAGES) {
    cpSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true });
  }
  const compiler = join(ROOT, 'node_modules/.bin/tsc');
  await runProgram('sh', '-c', 'exec "$0" -p "$1"', compiler, join(folder, 'tsconfig.json'));
  return join(folder, relative(ROOT, entry).replace(/\.ts$/, '.js'));
}
