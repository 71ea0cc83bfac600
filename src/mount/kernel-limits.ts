// How much the kernel reads ahead and holds back on one mount, which only root may raise.
//
// Written behind the mount's back, by its device number: nothing is asked of the mount itself.

import { writeFile } from 'node:fs/promises';

/** Lets the kernel read `bytes` ahead on the mount with this `major:minor`, if we may. Never rejects. */
export async function raiseReadAhead(device: string, bytes: number): Promise<void> {
  const kib = Math.ceil(bytes / 1024);
  // A normal user may not; the mount then works as well, in smaller requests.
  await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}\n`).catch(() => undefined);
}

/**
 * Lets writes to the mount with this `major:minor` take `percent` of what the system allows to wait in
 * memory: a FUSE mount begins with 1, at which every long write is slowed down. Never rejects.
 */
export async function allowHeldWrites(device: string, percent: number): Promise<void> {
  await writeFile(`/sys/class/bdi/${device}/max_ratio`, `${percent}\n`).catch(() => undefined);
}
