// Runs archivers on files in a directory of their own.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DISK, IMAGE } from './odd-file.js';

/** The name of the disk in an archive. */
export const MEMBER = 'a.img';

/**
 * Runs a script in a new directory with the files `a.img`, `disk.img` (which says its size), `b.img` (other bytes),
 * `empty.img`, `holes.img` (sparse) and `README`.
 * @returns the file `archive` that it has made
 */
export function archived(script: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'odd-'));
  const at = (name: string): string => join(folder, name);
  try {
    writeFileSync(at(MEMBER), IMAGE);
    writeFileSync(at('disk.img'), DISK);
    writeFileSync(at('b.img'), Buffer.from(IMAGE).reverse());
    writeFileSync(at('empty.img'), '');
    writeFileSync(at('README'), 'no disk\n');
    writeFileSync(at('holes.img'), IMAGE.subarray(0, 70_000));
    truncateSync(at('holes.img'), 4_000_000);
    execFileSync('sh', ['-ec', script], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    return readFileSync(at('archive'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
