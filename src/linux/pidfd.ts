// Processes by descriptor (pidfd_open(2)): it stays with its process, whatever happens to the number. Never blocks.

import { ioctlReadWrite } from '../constants/open-flags.js';
import { addressOf, libc } from './libc.js';

/** The same number on every architecture. */
const SYS_PIDFD_OPEN = 434;

/** struct pidfd_info of linux/pidfd.h in its first form: a mask and a cgroup of 64 bits, and twelve 32-bit numbers. */
const INFO = { bytes: 64, mask: 0, exitCode: 60 };
const PIDFD_GET_INFO = ioctlReadWrite(0xff, 11, INFO.bytes);
const PIDFD_INFO_EXIT = 1 << 3;

/** A pidfd of a process, which the caller closes; negative on failure. */
export function openPidfd(pid: number): number {
  return libc.syscall(SYS_PIDFD_OPEN, pid, 0);
}

/**
 * The exit status of a process that need not be our child; a signal that killed it counts from 128, as in a shell.
 * `pending` while it runs or waits for its parent; undefined before Linux 6.15, which does not tell.
 */
export function exitStatusOf(descriptor: number): number | 'pending' | undefined {
  const info = new DataView(new ArrayBuffer(INFO.bytes));
  const isLittle = true;
  info.setUint32(INFO.mask, PIDFD_INFO_EXIT, isLittle);
  if (libc.ioctl(descriptor, PIDFD_GET_INFO, addressOf(info)) < 0) return undefined;
  if ((info.getUint32(INFO.mask, isLittle) & PIDFD_INFO_EXIT) === 0) return 'pending';
  const status = info.getInt32(INFO.exitCode, isLittle);
  const signal = status & 0x7f;
  return signal === 0 ? (status >> 8) & 0xff : 128 + signal;
}
