// Bundles the program's many small files into a few: reading them is most of the start.
//
// Run by `npm run build` after tsc. The program and its worker become CommonJS, which node loads faster than
// modules, each in one file whose modules run when they are first needed; launch.cjs loads them. The library
// is not bundled.

import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const FOLDER = 'dist/program';

const COMMON = {
  outdir: FOLDER,
  bundle: true,
  platform: 'node',
  target: 'node20',
  external: ['koffi', 'fuse-native'],
  logLevel: 'warning',
};

/** Scripts, not modules, with unchanged names, so that a stack is readable. */
const SCRIPTS = {
  ...COMMON,
  format: 'cjs',
  minifyWhitespace: true,
  minifySyntax: true,
  define: { 'import.meta.url': 'importMetaUrl' },
};

/** Slow modules of node that are not loaded yet when the program begins. */
const HEAVY = 'child_process|crypto|dgram|dns/promises|net|os|readline|stream|timers/promises|tls';

const IMPORT_META_URL = "const importMetaUrl = require('node:url').pathToFileURL(__filename).href;";

/** Modules that are loaded at their first use. */
const LAZY = `
const lazily = (name) => {
  let module;
  return new Proxy({}, { get: (_, key) => (module ??= require(name))[key] });
};
${IMPORT_META_URL}
`;

rmSync(FOLDER, { recursive: true, force: true });
await Promise.all([
  build({
    ...SCRIPTS,
    banner: { js: LAZY },
    // A script with a cache of its code cannot import().
    supported: { 'dynamic-import': false },
    entryPoints: {
      'main.body': 'dist/cli/main.js',
      'worker.body': 'dist/worker/worker.js',
      'read-thread.body': 'dist/worker/read-thread.js',
      'chunks.body': 'dist/chunks/main.js',
      'decode-thread.body': 'dist/chunks/reader/decode-thread.js',
    },
  }),
  // Too small for a cache.
  build({
    ...SCRIPTS,
    banner: { js: IMPORT_META_URL },
    entryPoints: { early: 'dist/cli/early.js', proxy: 'dist/proxy/main.js' },
  }),
  build({
    ...COMMON,
    format: 'esm',
    outExtension: { '.js': '.mjs' },
    // The CommonJS parts require node's own modules.
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    entryPoints: { shell: 'dist/shell/main.js' },
  }),
]);

/** koffi where it is first used: see src/linux/koffi.ts. */
const KOFFI = /\(0,\s*[\w$.]+createRequire\)\(importMetaUrl\)\("koffi"\)|require\("koffi"\)/g;
const REQUIRE = new RegExp(`(?<=\\w=)require\\("(node:(?:${HEAVY}))"\\)`, 'g');
const bodies = [
  'main.body.js',
  'worker.body.js',
  'read-thread.body.js',
  'chunks.body.js',
  'decode-thread.body.js',
];
for (const body of bodies) {
  const text = readFileSync(`${FOLDER}/${body}`, 'utf8');
  const lazy = text.replace(REQUIRE, 'lazily("$1")');
  writeFileSync(`${FOLDER}/${body}`, lazy.replaceAll(KOFFI, 'require("./launch.js").koffi(require)'));
  // The chunk server keeps the program of its threads in memory: see src/launch.
  if (body === 'decode-thread.body.js') continue;
  const stub = `module.exports = require('./launch.js').load('${body}', require);\n`;
  writeFileSync(`${FOLDER}/${body.replace('.body', '')}`, stub);
}
writeFileSync(`${FOLDER}/package.json`, '{ "type": "commonjs" }\n');
writeFileSync(
  `${FOLDER}/write-caches.js`,
  `require('./launch.js').writeCaches(${JSON.stringify(bodies)});\n`,
);
copyFileSync('src/launch/launch.cjs', `${FOLDER}/launch.js`);
copyFileSync('packaging/liblzma/liblzma-x64.so', `${FOLDER}/liblzma-x64.so`);
execFileSync(process.execPath, [`${FOLDER}/write-caches.js`]);
