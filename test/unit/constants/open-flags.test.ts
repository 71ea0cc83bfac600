import { expect, it } from 'vitest';
import * as flags from '../../../src/constants/open-flags.js';
import { runProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('python3');

it('flags of open(2): match this processor', async () => {
  const names = Object.keys(flags).filter((name) => name.startsWith('O_'));
  const code = `import os, json; print(json.dumps({n: getattr(os, n) for n in ${JSON.stringify(names)}}))`;
  const { ioctlRead32: _, ioctlWrite: __, ioctlReadWrite: ___, ...ours } = flags;
  expect(JSON.parse(await runProgram('python3', '-c', code))).toEqual(ours);
});

it("FUSE_DEV_IOC_CLONE: is that of asm-generic/ioctl.h, or the processor's own", () => {
  expect(flags.ioctlRead32(229, 0, 'x64')).toBe(0x8004e500);
  expect(flags.ioctlRead32(229, 0, 'arm64')).toBe(0x8004e500);
  expect(flags.ioctlRead32(229, 0, 'ppc64')).toBe(0x4004e500);
  expect(flags.ioctlWrite(229, 1, 16, 'x64')).toBe(0x4010e501);
  expect(flags.ioctlWrite(229, 2, 4, 'ppc64')).toBe(0x8004e502);
  // PIDFD_GET_INFO.
  expect(flags.ioctlReadWrite(0xff, 11, 64)).toBe(0xc040ff0b);
});
