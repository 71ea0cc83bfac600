// Landlock, by which a process restricts its own access to files. packaging/confine.pl uses it.

import { koffi } from './koffi.js';

const CREATE_RULESET = 444;
const GET_VERSION = 1;

/** The ABI version of the kernel's Landlock; less than 1 without it. */
export function landlockVersion(): number {
  const syscall = koffi.load(null).func('syscall', 'long', ['long', 'size_t', 'size_t', 'unsigned int']);
  return Number(syscall(CREATE_RULESET, 0, 0, GET_VERSION));
}
