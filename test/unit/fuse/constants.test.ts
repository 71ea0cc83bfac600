// Numbers of the kernel's protocol and their names in traces.

import { expect, test } from 'vitest';
import * as constants from '../../../src/fuse/constants.js';

const OPCODES: Readonly<Record<string, number>> = {
  FUSE_LOOKUP: 1,
  FUSE_FORGET: 2,
  FUSE_GETATTR: 3,
  FUSE_SETATTR: 4,
  FUSE_OPEN: 14,
  FUSE_READ: 15,
  FUSE_WRITE: 16,
  FUSE_STATFS: 17,
  FUSE_RELEASE: 18,
  FUSE_FSYNC: 20,
  FUSE_FLUSH: 25,
  FUSE_INIT: 26,
  FUSE_ACCESS: 34,
  FUSE_INTERRUPT: 36,
  FUSE_DESTROY: 38,
  FUSE_BATCH_FORGET: 42,
  FUSE_FALLOCATE: 43,
  FUSE_READDIRPLUS: 44,
  FUSE_RENAME2: 45,
  FUSE_LSEEK: 46,
  FUSE_MKNOD: 8,
  FUSE_CREATE: 35,
};

test('FUSE opcodes: each has the name of <linux/fuse.h>', () => {
  const all = new Map<string, unknown>(Object.entries(constants));
  for (const [name, number] of Object.entries(OPCODES)) {
    expect(all.get(name), name).toBe(number);
    expect(constants.opcodeName(number)).toBe(name);
  }
});

test('FUSE opcodes: an unknown number shows as a number', () => {
  expect(constants.opcodeName(4096)).toBe('FUSE_4096');
});
