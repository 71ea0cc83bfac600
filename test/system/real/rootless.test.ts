// In a rootless container: a user namespace with a mount namespace of its own, in which the kernel allows
// FUSE mounts by mount(2). So nbdfuse does not need the setuid fusermount3, which the PATH here lacks.

import { mkdirSync, symlinkSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { Program } from '../../support/run/program.js';
import { requireProgram, requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';

requirePrograms('nbdkit', 'unshare', 'umount', 'dd');

/** All programs that the tests use, except fusermount3. */
const PROGRAMS = [
  'cat',
  'sh',
  'nbdkit',
  'umount',
  'dd',
  'cmp',
  'rm',
  'rmdir',
  'sleep',
  'mkdir',
  'grep',
  'touch',
];

/** Mounts each of $FILES; the test of a killed mount needs a directory among them. */
const SCRIPT = `set -eu
if command -v fusermount3; then exit 3; fi
nbdfuse() { "$NODE" "$NBDFUSE" "$@"; }
mkdir dir; touch naked
for file in $FILES; do
  nbdfuse --daemon -P pid "$file" [ nbdkit memory 8M ]
  grep "$FOLDER.* fuse.nbdfuse" /proc/self/mounts
  dd if=/dev/urandom of=random bs=1M count=2 2>/dev/null
  dd if=random of="$file" bs=1M conv=notrunc,fsync 2>/dev/null
  cmp -n 2097152 random "$file"
  nbdfuse --unmount "$file"
  if grep "$FOLDER.* fuse.nbdfuse" /proc/self/mounts; then exit 4; fi
done
[ "$FILES" != naked ] || { echo all is well; exit; }
# One that is killed leaves a dead mount, which the next start removes.
nbdfuse --daemon -P pid dir --command nbdkit -s memory 8M
number=$(cat pid)
kill -9 "$number"
while kill -0 "$number" 2>/dev/null; do sleep 0.05; done
nbdfuse --daemon dir --command nbdkit -s memory 8M
nbdfuse --unmount dir
echo all is well`;

const CLEANED_UP = /^nbdfuse: .*: removed the stale mount that an earlier nbdfuse had left there\n$/;

it.each([
  ['as its root', ['-Urm'], 'dir/disk.raw naked'],
  ['as a user with the capabilities of the namespace', ['-Ucm', '--keep-caps'], 'naked'],
])(
  'rootless container: mounts, writes, cleans up and unmounts without fusermount3, %s',
  async (_, words, files) => {
    const scope = createScope();
    admitNormalUser(scope);
    const bin = scope.path('bin');
    mkdirSync(bin);
    for (const name of PROGRAMS) symlinkSync(requireProgram(name), `${bin}/${name}`);
    const [setpriv, ...asUser] = AS_NORMAL_USER;
    const container = [...asUser, requireProgram('unshare'), ...words];
    const script = ['sh', '-c', `cd "$FOLDER"; ${SCRIPT}`];
    const env = {
      PATH: bin,
      NODE: process.execPath,
      NBDFUSE,
      FOLDER: scope.folder,
      FILES: files,
      HOME: scope.folder,
    };
    const program = new Program(scope, requireProgram(setpriv), [...container, ...script], { env });
    expect([await program.ended, program.stdout, program.stderr]).toEqual([
      0,
      expect.stringMatching(/all is well\n$/),
      files === 'naked' ? '' : expect.stringMatching(CLEANED_UP),
    ]);
    expect(await mountsBelow(scope.folder)).toEqual([]);
    expect(await processesOf(scope.folder)).toEqual([]);
  },
);
