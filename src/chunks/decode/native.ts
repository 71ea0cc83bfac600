// Loads the shared libraries of the decoders.

import koffi from 'koffi';

/** koffi unloads a library when its handle is garbage-collected. */
const kept: unknown[] = [];

/** The Debian packages of the libraries. */
const PACKAGES: Readonly<Record<string, string>> = {
  'liblzma.so.5': 'liblzma5',
  'libz.so.1': 'zlib1g',
  'libbz2.so.1.0': 'libbz2-1.0',
  'libzstd.so.1': 'libzstd1',
  'liblz4.so.1': 'liblz4-1',
};

/**
 * Opens a shared library for the life of this thread. It finds its own symbols before those of the node executable,
 * which may contain another version of the same library.
 * @throws Error if the system lacks it
 */
export function openLibrary(name: string): ReturnType<typeof koffi.load> {
  try {
    const library = koffi.load(name, { deep: true });
    kept.push(library);
    return library;
  } catch (cause) {
    const hint = name in PACKAGES ? `: apt-get install ${PACKAGES[name]}` : '';
    throw new Error(`the library ${name} is missing${hint}`, { cause });
  }
}
