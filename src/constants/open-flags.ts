// Open flags and ioctl numbers of this processor; they differ between processors.
//
// O_DIRECT of x86 is O_DIRECTORY of ARM. The flags in the kernel's requests are these numbers as well.

import { constants } from 'node:fs';

export const { O_RDONLY, O_RDWR, O_DIRECT, O_DSYNC, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Missing in Node's table, and the same on every processor that Node supports. */
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
/** Mask of the access mode: O_RDONLY, O_WRONLY, O_RDWR. */
export const O_ACCMODE = 3;

/** Processors whose ioctl numbers encode the direction differently. */
const IOC_OTHERS: readonly string[] = ['ppc', 'ppc64', 'mips', 'mipsel'];

/** `_IOR(type, number, uint32_t)` on a processor. */
export function ioctlRead32(type: number, number: number, arch: string = process.arch): number {
  const direction = IOC_OTHERS.includes(arch) ? 0x40000000 : 0x80000000;
  return direction + 4 * 0x10000 + type * 0x100 + number;
}

/** `_IOWR(type, number, size)`: the same on every processor. @param size bytes of the argument */
export function ioctlReadWrite(type: number, number: number, size: number): number {
  return 0xc0000000 + size * 0x10000 + type * 0x100 + number;
}

/** `_IOW(type, number, size)` on a processor. @param size bytes of the argument */
export function ioctlWrite(type: number, number: number, size: number, arch: string = process.arch): number {
  const direction = IOC_OTHERS.includes(arch) ? 0x80000000 : 0x40000000;
  return direction + size * 0x10000 + type * 0x100 + number;
}
