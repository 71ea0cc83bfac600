// Finds the program that an argument vector names, before anything is started.

import { access, constants, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { ENOENT } from '../constants/errno.js';
import { keptPath } from '../linux/kept-path.js';
import { printable } from '../nbd/text.js';
import { codeOf, reasonOf, TransportError } from './errors.js';

/**
 * The path of the program `name`, searched in PATH when it has no slash.
 * @throws TransportError when there is no such program, or it cannot be run
 */
export async function findProgram(name: string): Promise<string> {
  const shown = printable(name);
  if (name === '') throw new TransportError('cannot start a server: no program is named');
  if (name.includes('/')) {
    const wrong = await whyNot(isAbsolute(name) ? name : join(keptPath('.'), name));
    if (wrong === undefined) return name;
    throw new TransportError(`cannot start ${shown}: ${wrong}`, { errno: ENOENT });
  }
  for (const directory of (process.env.PATH ?? '/usr/bin:/bin').split(delimiter)) {
    const path = join(directory === '' ? '.' : directory, name);
    if ((await whyNot(path)) === undefined) return path;
  }
  throw new TransportError(`cannot start ${shown}: no such program in PATH; is it installed?`, {
    errno: ENOENT,
  });
}

async function whyNot(path: string): Promise<string | undefined> {
  try {
    if (!(await stat(path)).isFile()) return 'it is not a program';
    await access(path, constants.X_OK);
    return undefined;
  } catch (error) {
    return codeOf(error) === 'ENOENT' ? 'no such program' : reasonOf(error);
  }
}
