// The kernel's read-ahead of one mount, which only root may raise above 128 KiB.

import { writeFile } from 'node:fs/promises';
import { findMount } from './mount-table.js';

/** Lets the kernel read `kib` KiB ahead on the mount at `path`. Says whether it could; never rejects. */
export async function raiseReadAhead(path: string, kib: number): Promise<boolean> {
  try {
    const entry = await findMount(path);
    if (entry === undefined) return false;
    await writeFile(`/sys/class/bdi/${entry.device}/read_ahead_kb`, `${kib}\n`);
    return true;
  } catch {
    return false;
  }
}
