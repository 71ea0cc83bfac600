// The set-ID bits of a mounted file: a write by another user than the owner clears them, as on any disk.

import { chmodSync, chownSync, statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'dd', 'fallocate');

const WAYS: readonly (readonly [string, readonly string[]])[] = [
  ['a write', ['dd', 'if=/dev/zero', 'bs=512', 'count=1', 'conv=notrunc', 'status=none', 'of=FILE']],
  [
    'a direct write',
    ['dd', 'if=/dev/zero', 'bs=4k', 'count=1', 'conv=notrunc', 'oflag=direct', 'status=none', 'of=FILE'],
  ],
  ['O_TRUNC', ['dd', 'if=/dev/null', 'status=none', 'of=FILE']],
  ['punching a hole', ['fallocate', '-p', '-o', '0', '-l', '4096', 'FILE']],
];

it.each(['writeback', 'writethrough', 'none'])(
  'set-ID bits: --cache=%s: the first change by another user clears them',
  async (cache) => {
    const scope = createScope();
    admitNormalUser(scope);
    chmodSync(scope.folder, 0o755);
    const options = [`--cache=${cache}`, '-o', 'allow_other,suid,umask=0'];
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'], options });
    for (const [what, words] of WAYS) {
      chmodSync(disk.file, 0o6777);
      expect(statSync(disk.file).mode & 0o7777).toBe(0o6777);
      const [program, ...rest] = [...AS_NORMAL_USER, ...words.map((word) => word.replace('FILE', disk.file))];
      await runProgram(program, ...rest);
      expect((statSync(disk.file).mode & 0o7777).toString(8), what).toBe('777');
    }
    chmodSync(disk.file, 0o4755);
    await runProgram(
      'dd',
      'if=/dev/zero',
      'bs=512',
      'count=1',
      'conv=notrunc',
      'status=none',
      `of=${disk.file}`,
    );
    expect((statSync(disk.file).mode & 0o7777).toString(8)).toBe('4755');
    chownSync(disk.file, 1, 1);
    expect((statSync(disk.file).mode & 0o7777).toString(8)).toBe('755');
  },
);
