// Names that are not UTF-8: the mountpoint, the current directory, and everything else on the command line.
//
// A shell makes the names, since Node can neither pass on nor decode them.

import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow } from '../../support/run/scope.js';

requirePrograms('nbdkit', 'fusermount3', 'umount');

/** `$odd` is the name of a directory, `$replaced` the one that Node would see; `count` counts the mounts at a path. */
const PRELUDE = `set -e; cd "$1"; NODE=$2 NBDFUSE=$3; nbdfuse() { "$NODE" "$NBDFUSE" "$@"; }
odd=$(printf 'n\\377u'); replaced=$(printf 'n\\357\\277\\275u'); mkdir "$odd" "$replaced"
count() { grep -a -c -F " $PWD/$1 fuse.nbdfuse " /proc/mounts || true; }
`;

function run(scope: Scope, script: string) {
  return tryProgram('sh', '-c', PRELUDE + script, 'sh', scope.folder, process.execPath, NBDFUSE);
}

const DISK = '--command nbdkit -s memory 1M';

it('path bytes: a directory whose name is not UTF-8 is mounted, shown and unmounted', async () => {
  const scope = createScope();
  const script = `nbdfuse --daemon "$odd" ${DISK}
    count "$odd"; count "$replaced"; stat -c %s "$odd/nbd"
    nbdfuse --status "$odd/nbd" | head -n 1
    nbdfuse --unmount "$odd"; count "$odd"; ls "$odd"`;
  expect(await run(scope, script)).toEqual({
    status: 0,
    stdout: '1\n0\n1048576\nn\\xffu/nbd\n0\n',
    stderr: '',
  });
});

it('path bytes: a file is mounted over, a new file named, and a pidfile written', async () => {
  const scope = createScope();
  const script = `touch "$odd/$odd"
    nbdfuse --daemon -P "$odd.pid" "$odd/$odd" ${DISK}
    stat -c %s "$odd/$odd"; ls | grep -a -c pid; kill "$(cat "$odd.pid")"
    while [ -e "$odd.pid" ]; do sleep 0.05; done; stat -c %s "$odd/$odd"
    nbdfuse --daemon "$odd/disk.raw" ${DISK}; stat -c %s "$odd/disk.raw"; umount "$odd"`;
  const { status, stdout, stderr } = await run(scope, script);
  expect({ status, stdout }).toEqual({ status: 0, stdout: '1048576\n1\n0\n1048576\n' });
  expect(stderr).toMatch(/^nbdfuse: mountpoint n\\xffu\/disk\.raw: the mount covers [^\n]*\n$/);
});

it('path bytes: a current directory whose name is not UTF-8 can be covered, or hold the mountpoint', async () => {
  const scope = createScope();
  const script = `cd "$odd"; mkdir dir
    nbdfuse --daemon dir ${DISK}; count dir; nbdfuse --unmount dir; count dir
    nbdfuse --daemon . ${DISK}; cd ..; count "$odd"; nbdfuse --unmount "$odd"; count "$odd"`;
  expect(await run(scope, script)).toEqual({ status: 0, stdout: '1\n0\n1\n0\n', stderr: '' });
});

it('path bytes: a server listens at a relative path in such a current directory', async () => {
  const scope = createScope();
  const script = `cd "$odd"; mkdir dir; nbdkit -U socket -P "$1/server.pid" memory 1M
    nbdfuse --daemon dir --unix socket; stat -c %s dir/nbd; nbdfuse --unmount dir
    nbdfuse --daemon dir 'nbd+unix:///?socket=./socket'; stat -c %s dir/nbd; nbdfuse --unmount dir
    nbdfuse --daemon -P pid dir --unix socket; ls | grep pid; nbdfuse --unmount dir; ls "../$replaced"
    kill "$(cat "$1/server.pid")"`;
  expect(await run(scope, script)).toEqual({ status: 0, stdout: '1048576\n1048576\npid\n', stderr: '' });
});

it('path bytes: auto_unmount and the next start remove the mount of a killed nbdfuse', async () => {
  const scope = createScope();
  const kill = (options: string): string => `nbdfuse --daemon -P pid ${options} "$odd" ${DISK}
    kill -9 "$(cat pid)"; while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done`;
  const script = `${kill('-o auto_unmount')}
    while [ "$(count "$odd")" != 0 ]; do sleep 0.05; done
    ${kill('')}; nbdfuse --daemon "$odd" ${DISK}; count "$odd"; nbdfuse --unmount "$odd"`;
  const { status, stdout, stderr } = await run(scope, script);
  expect([status, stdout]).toEqual([0, '1\n']);
  expect(stderr).toMatch(
    /^nbdfuse: .*\/n\\xffu: removed the stale mount that an earlier nbdfuse had left there\n$/,
  );
});

it.each([
  ['an image', '"$odd.img"', 'n\\xffu.img'],
  ['an image in a directory', '"$odd/img"', 'n\\xffu/img'],
  ['a socket', '--unix "$odd"', 'n\\xffu'],
  ['a word of a server', '[ nbdkit file "$odd" ]', 'n\\xffu'],
])('path bytes: refuses %s by its name', async (_, words, name) => {
  const scope = createScope();
  const outcome = await run(
    scope,
    `head -c 1M /dev/zero | tee "$odd.img" >"$odd/img"; mkdir dir; nbdfuse dir ${words}`,
  );
  expect(outcome).toEqual({
    status: 1,
    stdout: '',
    stderr: `nbdfuse: ${name}: the name is not UTF-8, which only MOUNTPOINT and --pidfile may be; use another name\n`,
  });
});

it('path bytes: refuses an image below a directory, and a new file, whose names are not UTF-8', async () => {
  const scope = createScope();
  const image = await run(
    scope,
    'cd "$odd"; mkdir dir; head -c 1M /dev/zero >disk.raw; nbdfuse dir disk.raw',
  );
  expect(image.stderr).toMatch(/: the name is not UTF-8: rename the file or its directory\n$/);
  const file = await run(createScope(), `mkdir dir; nbdfuse "dir/$odd" ${DISK}`);
  expect(file.stderr).toBe(
    'nbdfuse: mountpoint dir/n\\xffu: the name of the new file is not UTF-8; use another name\n',
  );
  expect(await mountsBelow(scope.folder)).toEqual([]);
});
