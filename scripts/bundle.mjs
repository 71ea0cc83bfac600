// Puts the program's many small files into few, since reading them is most of its start.
//
// Run by `npm run build` after tsc. Entry points keep their names; what is imported on demand stays
// apart. The library is not bundled.

import { readdirSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { build } from 'esbuild';

const FOLDER = 'dist/program';

const COMMON = {
  outdir: FOLDER,
  metafile: true,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['koffi', 'fuse-native'],
  // commander is CommonJS: its require() of Node's own modules needs one.
  banner: {
    js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
  },
  logLevel: 'warning',
};

// nbdsh is apart: sharing parts with it would cut nbdfuse into more of them.
const results = await Promise.all([
  build({
    ...COMMON,
    entryPoints: { main: 'dist/cli/main.js', worker: 'dist/bridge/worker.js' },
    splitting: true,
  }),
  build({ ...COMMON, entryPoints: { shell: 'dist/shell/main.js' } }),
]);

// Parts carry a hash in their names: those of the last build would stay, and be packed.
const outputs = results.flatMap(({ metafile }) => Object.keys(metafile.outputs));
const written = new Set(outputs.map((path) => basename(path)));
for (const name of readdirSync(FOLDER)) if (!written.has(name)) rmSync(`${FOLDER}/${name}`);
