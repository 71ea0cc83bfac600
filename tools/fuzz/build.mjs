// Builds the program of `npm run fuzz`: the fuzzer's own modules, and the targets with the source that they
// reach.
//
// Jazzer.js instruments CommonJS file by file, so every file is translated separately, not bundled.

import { execFileSync } from 'node:child_process';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const LOCK = 'tools/fuzz/package-lock.json';
const INSTALLED = 'tools/fuzz/node_modules/.package-lock.json';
const OUT = 'tools/fuzz/build';

/** The folders of src that the targets reach. */
const ROOMS = ['constants', 'nbd', 'fuse', 'linux', 'tls', 'worker', 'transport'];

if (!existsSync(INSTALLED) || statSync(INSTALLED).mtimeMs < statSync(LOCK).mtimeMs) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', 'tools/fuzz'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
execFileSync(process.execPath, ['tools/fuzz/fit-libc.mjs'], { stdio: 'inherit' });

for (const folder of ['src', 'tools', 'test']) rmSync(`${OUT}/${folder}`, { recursive: true, force: true });
await build({
  entryPoints: [
    ...ROOMS.map((room) => `src/${room}/**/*.ts`),
    'tools/fuzz/*.ts',
    'tools/fuzz/targets/*.ts',
    'test/support/**/*.ts',
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
