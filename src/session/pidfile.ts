// The pidfile: it appears when the mount is ready, and disappears when the process ends.
//
// Holds the process number without a newline, as the C nbdfuse writes it. Removed at exit, if it is still ours.

import { lstatSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { keptPath } from '../linux/kept-path.js';
import { pathBytes } from '../linux/path-text.js';
import { reasonOf } from '../transport/errors.js';

/** A pidfile that was written. */
export interface Pidfile {
  /** Synchronous, so that it works in the last moments of the process; never throws. */
  remove(): void;
}

/** Writes this process's number into a file. @throws Error, one line */
export async function writePidfile(path: string): Promise<Pidfile> {
  const file = pathBytes(keptPath(path));
  const text = String(process.pid);
  try {
    await writeFile(file, text);
  } catch (error) {
    removeIf(file, '');
    throw new Error(`cannot write the pidfile ${path}: ${reasonOf(error)}`, { cause: error });
  }
  return { remove: () => removeIf(file, text) };
}

/** Removes a regular file that holds exactly `text`; devices and pipes must not even be read. */
function removeIf(file: string | Buffer, text: string): void {
  try {
    const found = lstatSync(file);
    if (found.isFile() && found.size === text.length && readFileSync(file, 'utf8') === text) rmSync(file);
  } catch {
    // ENOENT: someone else has removed it. Otherwise a stale pidfile is the lesser evil.
  }
}
