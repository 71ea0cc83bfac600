// The system calls of mounting a FUSE file system.
//
// Neither waits for the file system that is being mounted. umount2(2) does, so it is not here: a thread
// of ours that waited in it could not be ended (see src/mount/detach.ts).

import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { ioctlRead32, O_CLOEXEC, O_NONBLOCK, O_RDWR } from './open-flags.js';

/** Of fuse.h. */
const FUSE_DEV_IOC_CLONE = ioctlRead32(229, 0);

/** Opens /dev/fuse: a descriptor that never blocks and is closed on exec. @throws SystemError */
export function openFuseDevice(): number {
  const device = libc.open('/dev/fuse', O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  if (device < 0) throw new SystemError(errno(), 'open');
  return device;
}

/**
 * One more descriptor of the mount that `device` serves, like it in everything. A request is answered on the
 * descriptor that it was read from. @throws SystemError
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
