// The kernel's read-ahead of one mount, which only root may raise above 128 KiB.
//
// Written behind the mount's back, by its device number: nothing is asked of the mount itself.

import { writeFile } from 'node:fs/promises';

/** Lets the kernel read `bytes` ahead on the mount with this `major:minor`, if we may. Never rejects. */
export async function raiseReadAhead(device: string, bytes: number): Promise<void> {
  const kib = Math.ceil(bytes / 1024);
  // A normal user may not; the mount then works as well, only slower over long distances.
  await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}\n`).catch(() => undefined);
}
