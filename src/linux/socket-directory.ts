// Chooses where the directory of a server's socket is made.
//
// A systemd unit with RuntimeDirectory= names its directory in the environment. systemd removes that with all that is
// in it, also when it has killed the processes that would have removed their directories.

import { randomBytes } from 'node:crypto';
import { mkdirSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** The directories in which it may be made, in the order in which they are tried. */
function parents(): readonly string[] {
  const own = (process.env.RUNTIME_DIRECTORY ?? '').split(':').filter((path) => path.startsWith('/'));
  return [...own.slice(0, 1), resolve(tmpdir()), '/tmp', '/var/tmp', '/dev/shm'];
}

/**
 * The path of a directory that can be made, whose name nobody else can guess.
 * @param prefix of its name
 * @param longest maximum length in bytes of the path of a file `socket` in it
 * @throws NodeJS.ErrnoException of the first place
 */
export function socketDirectoryToMake(prefix: string, longest = Number.POSITIVE_INFINITY): string {
  const name = `${prefix}-${randomBytes(8).toString('hex')}`;
  const failures: unknown[] = [];
  for (const parent of parents()) {
    const path = join(parent, name);
    if (Buffer.byteLength(join(path, 'socket')) > longest) continue;
    try {
      mkdirSync(path, { mode: 0o700 });
      rmdirSync(path);
      return path;
    } catch (error) {
      failures.push(error);
    }
  }
  throw failures[0];
}
