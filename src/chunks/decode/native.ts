// Loads the shared libraries of the decoders.

import koffi from 'koffi';

/** koffi unloads a library when its handle is garbage-collected. */
const kept: unknown[] = [];

/** Opens a shared library for the life of this thread. @throws Error if the system lacks it */
export function openLibrary(name: string): ReturnType<typeof koffi.load> {
  const library = koffi.load(name);
  kept.push(library);
  return library;
}
