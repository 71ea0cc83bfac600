// Makes what `npm run fuzz` runs: the fuzzer's own modules, and the targets with the source that they reach.
//
// Jazzer.js instruments CommonJS file by file, so every file is translated by itself, not bundled.

import { execFileSync } from 'node:child_process';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const LOCK = 'fuzz/package-lock.json';
const INSTALLED = 'fuzz/node_modules/.package-lock.json';
const OUT = 'fuzz/build';

/** The folders of src that the targets reach. */
const ROOMS = ['nbd', 'fuse', 'file', 'os', 'tls', 'bridge', 'transport'];

if (!existsSync(INSTALLED) || statSync(INSTALLED).mtimeMs < statSync(LOCK).mtimeMs) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', 'fuzz'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
execFileSync(process.execPath, ['fuzz/fit-libc.mjs'], { stdio: 'inherit' });

for (const folder of ['src', 'fuzz', 'test']) rmSync(`${OUT}/${folder}`, { recursive: true, force: true });
await build({
  entryPoints: [
    ...ROOMS.map((room) => `src/${room}/*.ts`),
    'fuzz/*.ts',
    'fuzz/targets/*.ts',
    'test/helpers/*.ts',
  ],
  outbase: '.',
  outdir: OUT,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  // CommonJS has no import.meta.
  define: { 'import.meta.url': 'moduleUrl' },
  banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'error',
});
writeFileSync(`${OUT}/package.json`, '{"type":"commonjs"}\n');
