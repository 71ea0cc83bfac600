// Lets a simulated system call fail like a real one, through the errno of the thread.

import koffi from 'koffi';

/** Sets errno, and returns -1 for the call to return. */
export function setErrno(value: number): -1 {
  koffi.errno(value);
  return -1;
}
