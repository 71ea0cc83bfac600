// Makes umount(8) call our helper, umount.fuse.nbdfuse, which waits until the server has every write.
//
// For root and a directory, umount(8) learns only that it is a FUSE file system, and calls no helper of ours. It does if
// libmount's table of mount options, /run/mount/utab, has the option helper=fuse.nbdfuse for the mount. mount(8) writes
// that table without mounting (-f), as libfuse also lets it do.

import { existsSync, readFileSync } from 'node:fs';
import { type MountEntry, unescapeOctal } from './mount-table.js';
import { runProgram } from './programs.js';

/** Where umount(8) looks for helpers. */
const HELPER = '/sbin/umount.fuse.nbdfuse';
const TABLE = '/run/mount/utab';
const OPTION = 'helper=fuse.nbdfuse';

/** Whether the table, as text of latin1, leads umount(8) to our helper for a mount. */
export function isRegistered(table: string, { source, path }: Pick<MountEntry, 'source' | 'path'>): boolean {
  return table.split('\n').some((line) => {
    const fields = new Map(line.split(' ').map((word) => [word.split('=', 1)[0], word]));
    const field = (name: string): string => unescapeOctal((fields.get(name) ?? '').slice(name.length + 1));
    const options = field('OPTS').split(',');
    return field('SRC') === source && field('TARGET') === path && options.includes(OPTION);
  });
}

function readTable(): string {
  try {
    return readFileSync(TABLE, 'latin1');
  } catch {
    return '';
  }
}

/**
 * Registers a new mount of root, if the helper is installed. Resolves when umount(8) knows it; the mount must be served.
 * Without success, umount(8) unmounts without the helper, and does not wait.
 */
export async function registerForUmount(mount: MountEntry): Promise<void> {
  // The table outlives a mount, and would collect equal lines.
  if (!existsSync(HELPER) || isRegistered(readTable(), mount)) return;
  // -c: mount must not canonicalize the path.
  const words = ['-i', '-f', '-c', '-t', mount.type, '-o', OPTION, '--', mount.source] as const;
  await runProgram(['mount', ...words], mount.path);
}
