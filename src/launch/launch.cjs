// Loads a part of the program from dist/program, with V8's code cache if there is one.
//
// Copied there by scripts/bundle.mjs. A cache is good for one version of node and one kind of processor,
// which its name says; V8 itself refuses one that does not fit the source or its own flags, and then the part
// is compiled as usual. The caches are written when the project is built and when the package is installed
// (`postinstall`). They save 4 to 11 % of a start: see docs/internals/decisions/0013-start-up.md.

const { existsSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');

const WRAPPER = ['(function (exports, require, module, __filename, __dirname) { ', '\n})'];

const cacheOf = (path) => `${path}.${process.version}-${process.arch}.cache`;

function compile(path, cachedData) {
  // The bundler writes ASCII only.
  const source = readFileSync(path, 'latin1');
  return new Script(WRAPPER.join(source), { filename: path, cachedData });
}

/** The exports of `name`, a file of this folder. */
exports.load = (name, require) => {
  const path = join(__dirname, name);
  let cachedData;
  try {
    cachedData = readFileSync(cacheOf(path));
  } catch {
    // Then without.
  }
  const module = { exports: {} };
  compile(path, cachedData).runInThisContext()(module.exports, require, module, path, __dirname);
  return module.exports;
};

/** koffi's binaries for ordinary systems, in the packages that its own loader looks for them. */
const BINARIES = {
  x64: '@koromix/koffi-linux-x64/linux_x64/koffi.node',
  arm64: '@koromix/koffi-linux-arm64/linux_arm64/koffi.node',
};

/**
 * koffi. Its own loader tries several places and reads the node executable to learn which C library that
 * has, in each thread anew; it runs only where the usual file is missing.
 */
exports.koffi = (require) => {
  const binary = BINARIES[process.arch];
  const isMusl = existsSync(`/lib/ld-musl-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}.so.1`);
  if (binary !== undefined && !isMusl) {
    try {
      return require(binary);
    } catch {
      // Fall back to koffi's loader, which reports the error.
    }
  }
  return require('koffi');
};

/** Compiles every function of the named files and writes the code caches beside them. */
exports.writeCaches = (names) => {
  const { setFlagsFromString } = require('node:v8');
  for (const name of names) {
    const path = join(__dirname, name);
    setFlagsFromString('--no-lazy');
    const script = compile(path);
    // The flags must be those of the start that will read it.
    setFlagsFromString('--lazy');
    const unfinished = `${cacheOf(path)}.${process.pid}`;
    writeFileSync(unfinished, script.createCachedData());
    renameSync(unfinished, cacheOf(path));
  }
};
