// Unix sockets with unusual names: abstract, long, relative; and $TMPDIR, where nbdfuse makes its own.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'qemu-storage-daemon', 'bash');

const MIB = 2 ** 20;
const DATA = Buffer.alloc(65_536, 'data');

function createImage(path: string): void {
  writeFileSync(path, '');
  truncateSync(path, 8 * MIB);
}

/** qemu-storage-daemon with the export `disk`, at an abstract name. @param tight whether the name has its exact length */
async function startAbstract(scope: Scope, image: string, name: string, tight: string): Promise<Program> {
  const pidfile = scope.path(`pid-${randomBytes(4).toString('hex')}`);
  const program = new Program(scope, 'qemu-storage-daemon', [
    ...['--blockdev', `driver=file,node-name=disk,filename=${image},locking=off`],
    ...[
      '--nbd-server',
      `addr.type=unix,addr.path=${name},addr.abstract=on,addr.tight=${tight},max-connections=0`,
    ],
    ...['--export', 'type=nbd,id=export,node-name=disk,name=disk,writable=on'],
    ...['--pidfile', pidfile],
  ]);
  await program.fills(pidfile);
  return program;
}

/** nbdkit at `folder`/socket. It refuses a path that is too long, so its socket gets that path later. */
async function startIn(scope: Scope, folder: string, image: string): Promise<Program> {
  const { program, socket } = await startNbdkit(scope, 'file', image);
  renameSync(socket, `${folder}/socket`);
  return program;
}

function longFolder(scope: Scope): string {
  const folder = scope.path('d'.repeat(120));
  mkdirSync(folder);
  return folder;
}

describe('Unix sockets', () => {
  it.each(['on', 'off'])('abstract: a mount survives the end of the server, with tight=%s', async (tight) => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    createImage(image);
    const name = `nbdfuse-test-${randomBytes(8).toString('hex')}`;
    const first = await startAbstract(scope, image, name, tight);
    const disk = await mountDisk(scope, {
      server: [`nbd+unix:///disk?socket=%00${name}`],
      options: ['--cache=writethrough'],
    });
    await writeAt(disk.file, DATA, 0);
    await first.kill('SIGKILL');
    await disk.program.says(/the server is lost|trying to connect/);
    // A write on the lost connection waits for proof, which the end of the process is.
    const written = writeAt(disk.file, DATA, 32_768);
    await startAbstract(scope, image, name, tight);
    await written;
    expect(DATA.equals(await readAt(disk.file, 32_768, DATA.length))).toBe(true);
  });

  it.each([
    ['--unix', (path: string) => ['--unix', path]],
    ['URI', (path: string) => [`nbd+unix:///?socket=${encodeURIComponent(path)}`]],
  ])('a path beyond 107 bytes: %s connects, and again after the end of the server', async (_, words) => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    createImage(image);
    const folder = longFolder(scope);
    const first = await startIn(scope, folder, image);
    const disk = await mountDisk(scope, { server: words(`${folder}/socket`) });
    await writeAt(disk.file, DATA, 0);
    await first.kill('SIGKILL');
    await startIn(scope, folder, image);
    await writeAt(disk.file, DATA, MIB);
    expect(DATA.equals(await readAt(image, MIB, DATA.length))).toBe(true);
  });

  it('a path beyond 107 bytes: NbdClient connects', async () => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    createImage(image);
    const folder = longFolder(scope);
    await startIn(scope, folder, image);
    const client = await NbdClient.connect({ unix: `${folder}/socket` });
    expect(client.size).toBe(BigInt(8 * MIB));
    await client.close();
  });

  it('a relative path: the mount connects again from another current directory', async () => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    createImage(image);
    mkdirSync(scope.path('mnt'));
    const first = await startIn(scope, scope.folder, image);
    const pidfile = scope.path('nbdfuse.pid');
    const command = 'cd "$0" && exec "$@"';
    const words = [process.execPath, NBDFUSE, '--daemon', '-P', pidfile, 'mnt', '--unix', 'socket'];
    const start = new Program(scope, 'bash', ['-c', command, scope.folder, ...words]);
    expect(await start.ended).toBe(0);
    scope.add(async () => {
      await startNbdfuse(scope, ['--unmount', scope.path('mnt')]).ended;
    });
    await first.kill('SIGKILL');
    await startIn(scope, scope.folder, image);
    await writeAt(scope.path('mnt/nbd'), DATA, MIB);
    expect(DATA.equals(await readAt(image, MIB, DATA.length))).toBe(true);
  });
});

describe('TMPDIR', () => {
  const serve = (scope: Scope, folder: string) =>
    mountDisk(scope, {
      server: ['[', 'nbdkit', 'memory', '1M', ']'],
      program: { env: { ...process.env, TMPDIR: folder } },
    });

  it.each([
    ['longer than a socket address', 't'.repeat(150)],
    ['with a percent sign, a space and a quote', "100% of it's space"],
  ])('a directory %s holds the socket of a server, and nothing at the end', async (_, name) => {
    const scope = createScope();
    const folder = scope.path(name);
    mkdirSync(folder);
    const before = readdirSync(scope.folder);
    const disk = await serve(scope, folder);
    await writeAt(disk.file, DATA, 0);
    expect(readdirSync(folder)).toEqual([expect.stringMatching(/^nbdfuse-[0-9a-f]{16}$/)]);
    expect(await disk.stop()).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
    expect(before).toContain(name);
  });

  it('/proc: a temporary overlay goes elsewhere', async () => {
    const scope = createScope();
    const image = scope.path('disk.raw');
    createImage(image);
    const disk = await mountDisk(scope, {
      server: [image],
      options: ['--overlay'],
      program: { env: { ...process.env, TMPDIR: '/proc' } },
    });
    await writeAt(disk.file, DATA, 0);
    expect(await disk.stop()).toBe(0);
  });

  it.each(['/nowhere/at/all', '/proc', '/dev/null'])('%s: the socket goes elsewhere', async (folder) => {
    const scope = createScope();
    const disk = await serve(scope, folder);
    await writeAt(disk.file, DATA, 0);
    expect(await disk.stop()).toBe(0);
  });
});
