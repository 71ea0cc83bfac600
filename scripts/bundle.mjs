// Puts the program's many small files into few, since reading them is most of its start.
//
// Run by `npm run build` after tsc. Entry points keep their names; what is imported on demand stays
// apart. The library is not bundled.

import { build } from 'esbuild';

await build({
  entryPoints: { main: 'dist/cli/main.js', worker: 'dist/bridge/worker.js' },
  outdir: 'dist/program',
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
