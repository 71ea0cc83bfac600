// The kernel's read-ahead and dirty page limit of one mount, which only root may raise.
//
// Set in sysfs by the device number, without any access to the mount itself.

import { writeFile } from 'node:fs/promises';

/** Lets the kernel read `bytes` ahead on the mount with this `major:minor`, if we may. Never rejects. */
export async function raiseReadAhead(device: string, bytes: number): Promise<void> {
  const kib = Math.ceil(bytes / 1024);
  // A normal user may not; the mount then works with smaller requests.
  await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}\n`).catch(() => undefined);
}

/**
 * Lets the mount with this `major:minor` use `percent` of the system's dirty page limit. A FUSE mount begins with 1,
 * which throttles every long write. Never rejects.
 */
export async function raiseDirtyLimit(device: string, percent: number): Promise<void> {
  await writeFile(`/sys/class/bdi/${device}/max_ratio`, `${percent}\n`).catch(() => undefined);
}
