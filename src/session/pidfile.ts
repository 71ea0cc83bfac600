// The pidfile: it appears when the mount is ready, and disappears when the process ends.
//
// Holds the process number without a newline, as the C nbdfuse writes it. Removed at exit, if it is still ours.

import { lstatSync, readFileSync, rmSync } from 'node:fs';
import { access, constants, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EISDIR } from '../constants/errno.js';
import { SystemError } from '../linux/errno.js';
import { keptPath } from '../linux/kept-path.js';
import { pathBytes } from '../linux/path-text.js';
import { reasonOf } from '../transport/errors.js';

/** A pidfile that was written. */
export interface Pidfile {
  /** Synchronous, so that it works in the last moments of the process; never throws. */
  remove(): void;
}

function cannotWrite(path: string, error: unknown): Error {
  return new Error(`cannot write the pidfile ${path}: ${reasonOf(error)}`, { cause: error });
}

/** Most bytes of a pidfile, of nbdfuse or of another program. */
const MOST_BYTES = 32;

/** @throws Error when a file is the user's: it has other bytes than a process number */
async function refuseOther(file: string | Buffer, size: number): Promise<void> {
  if (size === 0 || (size <= MOST_BYTES && /^\d+\s*$/.test(await readFile(file, 'latin1')))) return;
  throw new Error('the file exists and is not a pidfile; name another path');
}

/** Finds out before the start whether a pidfile can be written, and writes nothing. @throws Error, one line */
export async function checkPidfile(path: string): Promise<void> {
  const file = pathBytes(path);
  const { W_OK, X_OK } = constants;
  try {
    const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return undefined;
    });
    if (found?.isDirectory() === true || path.endsWith('/')) throw new SystemError(EISDIR, 'open');
    if (found?.isFile() === true) await refuseOther(file, found.size);
    if (found !== undefined) await access(file, W_OK);
    // A link may lead to a new file in another directory.
    else if (lstatSync(file, { throwIfNoEntry: false }) === undefined)
      await access(pathBytes(dirname(path)), W_OK | X_OK);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** Writes this process's number into a file. @throws Error, one line */
export async function writePidfile(path: string): Promise<Pidfile> {
  const file = pathBytes(keptPath(path));
  const text = String(process.pid);
  try {
    await writeFile(file, text);
  } catch (error) {
    removeIf(file, '');
    throw cannotWrite(path, error);
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
