// Reads extended attributes, for which Node has no call.

import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

/** Largest value in bytes that Linux allows. */
const XATTR_SIZE_MAX = 65_536;

/** The value of the attribute `name` of the file at `path`. @throws SystemError */
export function readAttribute(path: string, name: string): Buffer {
  const value = Buffer.alloc(XATTR_SIZE_MAX);
  const count = libc.getxattr(path, name, addressOf(value), value.length);
  if (count < 0) throw new SystemError(errno(), 'getxattr');
  return value.subarray(0, count);
}
