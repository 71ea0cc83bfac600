// Puts the program's many small files into few, since reading them is most of its start.
//
// Run by `npm run build` after tsc. Entry points keep their names; what is imported on demand stays
// apart. The library is not bundled.

import { readdirSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { build } from 'esbuild';

const FOLDER = 'dist/program';

const { metafile } = await build({
  entryPoints: { main: 'dist/cli/main.js', worker: 'dist/bridge/worker.js' },
  outdir: FOLDER,
  metafile: true,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['koffi', 'fuse-native'],
  // commander is CommonJS: its require() of Node's own modules needs one.
  banner: {
    js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
  },
  logLevel: 'warning',
});

// Parts carry a hash in their names: those of the last build would stay, and be packed.
const written = new Set(Object.keys(metafile.outputs).map((path) => basename(path)));
for (const name of readdirSync(FOLDER)) if (!written.has(name)) rmSync(`${FOLDER}/${name}`);
