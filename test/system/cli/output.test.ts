// Standard output that takes nothing: a full disk, and a reader that has gone.

import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'qemu-img', 'bash');

const NBDSH = NBDFUSE.replace(/nbdfuse$/, 'nbdsh');

const OUTPUTS = [
  '--help',
  '--version',
  '--fuse-help',
  '--long-options',
  '--short-options',
  '--completion bash',
  '--print-command mnt disk.qcow2',
  '--list $uri',
  '--status mnt',
  '--status --json mnt',
  '--status --watch mnt',
] as const;

it('standard output: a full disk is an error, and a reader that has gone is none', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '1M');
  await mountDisk(scope, { server: [server.uri()] });
  await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', scope.path('disk.qcow2'), '1M');
  for (const words of OUTPUTS) {
    const line = `cd ${scope.folder}; uri='${server.uri()}'; node ${NBDFUSE} ${words}`;
    expect([words, await tryProgram('bash', '-c', `${line} >/dev/full`)]).toEqual([
      words,
      {
        status: 1,
        stdout: '',
        stderr: 'nbdfuse: cannot write to standard output: no space left on device\n',
      },
    ]);
    const gone = `${line} > >(exec true); exit $?`;
    expect([words, await tryProgram('bash', '-c', `set -o pipefail; ${gone}`)]).toEqual([
      words,
      { status: 0, stdout: '', stderr: '' },
    ]);
  }
});

it('standard output of nbdsh: the same', async () => {
  for (const words of ['--help', '--version', '-c "print(1)"']) {
    expect(await tryProgram('bash', '-c', `node ${NBDSH} ${words} >/dev/full`)).toEqual({
      status: 1,
      stdout: '',
      stderr: 'nbdsh: cannot write to standard output: no space left on device\n',
    });
    const gone = await tryProgram('bash', '-c', `node ${NBDSH} ${words} > >(exec true); exit $?`);
    expect(gone).toEqual({ status: 0, stdout: '', stderr: '' });
  }
});
