// The parts of posix_fadvise(2) and FIEMAP that reach a FUSE file system. docs/reference/protocol.md has the reason.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { EOPNOTSUPP } from '../../../src/constants/errno.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'python3');

it('POSIX_FADV_WILLNEED: arrives as READs, so that NBD_CMD_CACHE has nothing to do', async () => {
  const scope = createScope();
  const log = scope.path('log');
  const server = ['[', 'nbdkit', '--filter=log', 'memory', '64M', `logfile=${log}`, ']'];
  const disk = await mountDisk(scope, { server });
  const advise =
    'import os, sys; os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 1 << 25, 4096, os.POSIX_FADV_WILLNEED)';
  await runProgram('python3', '-c', advise, disk.file);
  await until('a READ of what was advised', () =>
    / Read id=\d+ offset=0x2000000 /.test(readFileSync(log, 'utf8')),
  );
  expect(readFileSync(log, 'utf8')).not.toContain(' Cache ');
});

it('FIEMAP: the kernel refuses it before it reaches nbdfuse, and tools then use SEEK_HOLE', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  const ask = `
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
FS_IOC_FIEMAP = 0xC020660B
try: fcntl.ioctl(fd, FS_IOC_FIEMAP, struct.pack('QQIIII', 0, 1 << 20, 0, 0, 0, 0))
except OSError as error: print(error.errno)
print(os.lseek(fd, 0, os.SEEK_HOLE))`;
  expect(await runProgram('python3', '-c', ask, disk.file)).toBe(`${EOPNOTSUPP}\n0\n`);
});
