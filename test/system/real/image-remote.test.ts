// Images at URLs: on a web server of this test, and behind a real sshd on loopback.

import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { startSshd } from '../../support/sshd.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'xz', 'gzip', 'sshd', 'ssh-keygen', 'unshare');
requireRoot();

/** The files on the web server, and the line of nbdfuse about each. */
const KINDS: readonly (readonly [string, (scope: Scope, raw: string) => Promise<string>, string])[] = [
  ['disk.img', async (_, raw) => raw, 'raw; serving it with nbdfuse-chunks and nbdkit'],
  [
    'disk.img.xz',
    async (_, raw) => {
      await runProgram('xz', '-k', '-0', '--block-size=1MiB', raw);
      return `${raw}.xz`;
    },
    'raw, compressed with xz; serving it with nbdfuse-chunks and nbdkit',
  ],
  [
    'disk.img.gz',
    async (_, raw) => {
      await runProgram('gzip', '-k', '-1', raw);
      return `${raw}.gz`;
    },
    'raw, compressed with gzip; serving it with nbdfuse-chunks and nbdkit',
  ],
  [
    'disk.qcow2',
    (scope, raw) => convertTo(scope, raw, 'qcow2', 'disk.qcow2'),
    'qcow2; serving it with nbdfuse-chunks, nbdkit and qemu-nbd',
  ],
  [
    'disk.qcow2.xz',
    async (scope, raw) => {
      const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
      await runProgram('xz', '-k', '-0', image);
      return `${image}.xz`;
    },
    'qcow2, compressed with xz; serving it with nbdfuse-chunks, nbdkit and qemu-nbd',
  ],
];

describe('image on a web server', () => {
  it.each(KINDS)('%s mounts read-only', async (name, create, what) => {
    const scope = createScope();
    const raw = await createRaw(scope, 4);
    const web = await startHttpRangeServer(scope, await create(scope, raw), name);
    const disk = await mountDisk(scope, { server: [`${web.url}?token=a%26b`] });
    expect(disk.stderr).toBe(`nbdfuse: ${web.url}?token=… is ${what}\n`);
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect((await stat(disk.file)).mode & 0o222).toBe(0);
    expect(await disk.stop()).toBe(0);
  });

  it('that names another file is refused, even with --format', async () => {
    const scope = createScope();
    const backing = ['-u', '-F', 'raw', '-b', '/etc/passwd'];
    const image = createQcow2(scope.path('disk.qcow2'), '1M', ...backing);
    const web = await startHttpRangeServer(scope, image, 'disk.qcow2');
    for (const options of [[], ['--format=qcow2']]) {
      const program = startNbdfuse(scope, [...options, scope.path('mnt'), web.url]);
      expect(await program.ended).toBe(1);
      expect(program.stderr).toMatch(
        /names the backing file \/etc\/passwd, which nbdfuse does not open for a remote or compressed image/,
      );
    }
  });

  it('that is missing is reported with the status of the server', async () => {
    const scope = createScope();
    const web = await startHttpRangeServer(scope, await createRaw(scope, 1), 'disk.img');
    const program = startNbdfuse(scope, [scope.path('mnt'), new URL('/none.img', web.url).href]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(
      /^nbdfuse: cannot read http:[^\n]* HEAD with 404 Not Found; nbdkit: [^\n]*; check the URL\n$/,
    );
  });

  it.each([['--readonly'], ['--print-command']])(
    'a signal during the check ends its server (%s)',
    async (option) => {
      const scope = createScope();
      const silent = createServer();
      scope.add(async () => void silent.close());
      const connected = once(silent, 'connection');
      silent.listen(0, '127.0.0.1');
      await once(silent, 'listening');
      const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/disk.img`;
      const program = startNbdfuse(scope, [option, scope.path('mnt'), url]);
      await connected;
      const [server = ''] = (await runProgram('ps', '-o', 'pid=', '--ppid', String(program.pid))).split('\n');
      expect(await program.kill('SIGTERM')).toBe(1);
      expect(program.stderr).toBe('nbdfuse: stopped by SIGTERM\n');
      expect((await tryProgram('ps', '-p', server.trim())).status).not.toBe(0);
    },
  );
});

/** libssh takes the home folder from the list of users: in a namespace of its own, that has our keys. */
const OVER_SSH = `
set -e
# The mounts of other tests are in this namespace, too.
umount -a -i -l -t fuse.nbdfuse
mkdir -p -m 700 ~root/.ssh
mount --bind "$1/home/.ssh" ~root/.ssh
cd "$1"
mkdir mnt
"$2" "$3" --daemon mnt "$4"
cmp disk.raw mnt/nbd
printf 'through ssh' | dd of=mnt/nbd bs=1 seek=5000 conv=notrunc,fsync status=none
"$2" "$3" --unmount mnt`;

describe('images behind ssh', () => {
  it.each(['ssh', 'sftp'])('a raw one is read and written at %s://', async (scheme) => {
    const scope = createScope();
    const { port } = await startSshd(scope);
    const raw = await createRaw(scope, 1);
    const url = `${scheme}://root@127.0.0.1:${port}${raw}`;
    const words = ['-m', '--propagation', 'private', 'sh', '-c', OVER_SSH, 'sh', scope.folder];
    const { status, stderr } = await tryProgram('unshare', ...words, process.execPath, NBDFUSE, url);
    expect(stderr).toBe(`nbdfuse: ${url} is raw; serving it with nbdkit\n`);
    expect(status).toBe(0);
    expect((await readAt(raw, 5000, 11)).toString()).toBe('through ssh');
  });

  it('an unknown host is refused', async () => {
    const scope = createScope();
    const { port } = await startSshd(scope);
    const program = startNbdfuse(scope, [scope.path('mnt'), `ssh://root@127.0.0.1:${port}/disk.raw`]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/^nbdfuse: nbdkit: ssh[^\n]*host key is unknown[^\n]*\n$/);
  });
});
