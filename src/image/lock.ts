// Locks the files that a mount writes to, so that two mounts do not write to one image.
//
// The kernel ends the locks with this process, which serves the mount, however it ends; a client of the library ends them
// when it is closed. QEMU's programs have their own locks, which keep others from most images while a program writes to
// them, but not from raw ones below an overlay.

import { FileLocks } from '../linux/file-lock.js';
import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import { filesBelow, type Plan, type Program, writtenFiles } from './plan.js';

const HOLDERS = { nbdfuse: 'another nbdfuse', QEMU: 'a virtual machine or another program of QEMU' } as const;

function inUse(path: string, holder: string, cause?: unknown): ImageError {
  const cure = 'end that first, or use --share to look at the image meanwhile';
  return new ImageError(`${printable(path)} is in use by ${holder}: ${cure}`, { cause });
}

/**
 * Locks the files that a plan writes to, and those below them. Two mounts may write to two partitions of a raw image,
 * since their bytes are apart.
 * @throws ImageError when another program writes to one
 */
export function lockFiles(plan: Plan, programs: readonly Program[]): FileLocks {
  const locks = new FileLocks();
  try {
    lockAll(locks, plan, programs);
    return locks;
  } catch (error) {
    locks.release();
    throw error;
  }
}

function lockAll(locks: FileLocks, plan: Plan, programs: readonly Program[]): void {
  const { format, partition, overlay } = plan;
  const isPart = format === 'raw' && overlay === undefined && partition !== undefined;
  const range = isPart ? partition : { offset: 0n, size: 0n };
  for (const path of writtenFiles(plan)) {
    const holder = locks.lockForWriting(path, range, !programs.includes('qemu-nbd'));
    if (holder !== undefined) throw inUse(path, HOLDERS[holder]);
  }
  const changing = filesBelow(plan).find((path) => !locks.lockForReading(path));
  if (changing !== undefined) throw inUse(changing, HOLDERS.nbdfuse);
}

/** The error of a server of an image; when QEMU could not lock the image, one that says who may have it. */
export function explainedLock(error: unknown): unknown {
  const message = error instanceof Error ? error.message : '';
  if (!/Failed to get (shared )?"[a-z ]+" lock/.test(message)) return error;
  const path = /using the image \[(.*)\]\?/s.exec(message)?.[1] ?? 'the image';
  return inUse(path, HOLDERS.QEMU, error);
}
