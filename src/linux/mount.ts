// The system calls that mount a FUSE file system.
//
// None waits for the file system. umount2(2) may, so it is not here: a thread that waits in it cannot be ended (see
// src/mount/detach.ts).

import { ioctlRead32, O_CLOEXEC, O_NONBLOCK, O_RDWR } from '../constants/open-flags.js';
import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

/** FUSE_DEV_IOC_CLONE of fuse.h. */
const FUSE_DEV_IOC_CLONE = ioctlRead32(229, 0);

/** Opens /dev/fuse: non-blocking, closed on exec. @throws SystemError */
export function openFuseDevice(): number {
  const device = libc.open('/dev/fuse', O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  if (device < 0) throw new SystemError(errno(), 'open');
  return device;
}

/**
 * Opens another descriptor for the mount of `device`, with the same flags. The reply to a request goes to the
 * descriptor that delivered it. @throws SystemError
 */
export function cloneFuseDevice(device: number): number {
  const clone = openFuseDevice();
  const argument = new Uint32Array([device]);
  if (libc.ioctl(clone, FUSE_DEV_IOC_CLONE, addressOf(argument)) === 0) return clone;
  const error = errno();
  libc.close(clone);
  throw new SystemError(error, 'FUSE_DEV_IOC_CLONE');
}

/** mount(2). @throws SystemError */
export function mountFuse(source: string, path: string, type: string, flags: number, data: string): void {
  if (libc.mount(source, path, type, flags, data) < 0) throw new SystemError(errno(), 'mount');
}
