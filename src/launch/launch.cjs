// Loads a part of the program from dist/program, with V8's code cache if there is one.
//
// Copied there by scripts/bundle.mjs. A cache is good for one version of node and one kind of processor,
// which its name says; V8 itself refuses one that does not fit the source or its own flags, and then the part
// is compiled as usual. The caches are written when the project is built and when the package is installed
// (`postinstall`). They save 4 to 11 % of a start: see docs/internals/decisions/0013-start-up.md.

const { existsSync, openSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');

const WRAPPER = ['(function (exports, require, module, __filename, __dirname) { ', '\n})'];

const cacheOf = (path) => `${path}.${process.version}-${process.arch}.cache`;

// The bundler writes ASCII only.
const sourceOf = (path) => WRAPPER.join(readFileSync(path, 'latin1'));

const compile = (path, cachedData) => new Script(sourceOf(path), { filename: path, cachedData });

function cachedDataOf(path) {
  try {
    return readFileSync(cacheOf(path));
  } catch {
    // Then without.
    return undefined;
  }
}

/** The exports of `name`, a file of this folder. */
exports.load = (name, require) => {
  const path = join(__dirname, name);
  const module = { exports: {} };
  compile(path, cachedDataOf(path)).runInThisContext()(module.exports, require, module, path, __dirname);
  return module.exports;
};

/** koffi's binaries for ordinary systems, in the packages that its own loader looks for them. */
const BINARIES = {
  x64: '@koromix/koffi-linux-x64/linux_x64/koffi.node',
  arm64: '@koromix/koffi-linux-arm64/linux_arm64/koffi.node',
};

/** The name of that for this machine. */
function ordinaryBinary() {
  const isMusl = existsSync(`/lib/ld-musl-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}.so.1`);
  return isMusl ? undefined : BINARIES[process.arch];
}

/**
 * koffi. Its own loader tries several places and reads the node executable to learn which C library that
 * has, in each thread anew; it runs only where the usual file is missing.
 */
exports.koffi = (require) => {
  const binary = ordinaryBinary();
  if (binary !== undefined) {
    try {
      return require(binary);
    } catch {
      // Fall back to koffi's loader, which reports the error.
    }
  }
  return require('koffi');
};

/**
 * The program of a thread that may start at any time, with all that it reads from the disk: until then another version
 * of the package may take the place of this one, or a mount cover it. For `new Worker(code, { eval: true, workerData })`.
 */
exports.keep = (name) => {
  const path = join(__dirname, name);
  let binary;
  try {
    // Open for the life of the process.
    binary = `/proc/self/fd/${openSync(require.resolve(ordinaryBinary()), 'r')}`;
  } catch {
    // Then koffi's own loader looks for it.
  }
  const workerData = { path, source: sourceOf(path), cachedData: cachedDataOf(path), binary };
  return { code: `(${runKept})(require)`, workerData };
};

/** Runs a kept program in its thread. Refers to nothing outside of itself: it is passed on as text. */
function runKept(require) {
  const { createRequire } = require('node:module');
  const { Script } = require('node:vm');
  const { path, source, cachedData, binary } = require('node:worker_threads').workerData;
  const fromDisk = createRequire(path);
  const koffi = () => {
    const module = { exports: {} };
    try {
      process.dlopen(module, binary);
    } catch {
      return fromDisk('./launch.js').koffi(fromDisk);
    }
    return module.exports;
  };
  const requireKept = (name) => (name === './launch.js' ? { koffi } : fromDisk(name));
  const module = { exports: {} };
  const run = new Script(source, { filename: path, cachedData }).runInThisContext();
  run(module.exports, requireKept, module, path, undefined);
}

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
