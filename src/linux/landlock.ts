// Landlock, by which a process gives up rights to files; system/confine.pl makes use of it.

import koffi from 'koffi';

const CREATE_RULESET = 444;
const GET_VERSION = 1;

/** The version of the kernel's interface; less than 1 where there is none. */
export function landlockVersion(): number {
  const syscall = koffi.load(null).func('syscall', 'long', ['long', 'size_t', 'size_t', 'unsigned int']);
  return Number(syscall(CREATE_RULESET, 0, 0, GET_VERSION));
}
