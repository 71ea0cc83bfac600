// lseek(2) for holes in a file with dirty pages in the kernel that cannot be written back at once.

import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { freePort, untilListening } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'python3');

const MIB = 2 ** 20;

/** Writes to a mapping at 8 MiB, and seeks to data after a line on standard input. */
const SEEKER = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(fd, ${64 * MIB})
mapping[${8 * MIB}] = 1
print('ready', flush=True)
sys.stdin.readline()
print(os.lseek(fd, 0, os.SEEK_DATA), flush=True)
`;

async function startSeeker(scope: Scope, file: string): Promise<Program> {
  const program = new Program(scope, 'python3', ['-c', SEEKER, file], { stdio: ['pipe', 'pipe', 'pipe'] });
  await program.says(/ready/);
  return program;
}

/** Waits until a child of nbdfuse waits for pages to be written. */
function untilWritingBack({ program }: MountedDisk): Promise<void> {
  const children = `/proc/${program.pid}/task/${program.pid}/children`;
  const isWriting = (): boolean =>
    readFileSync(children, 'utf8')
      .split(' ')
      .some((pid) => pid !== '' && /folio_wait|writeback/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8')));
  return until('nbdfuse to have the dirty page written', isWriting);
}

function createImage(path: string): void {
  writeFileSync(path, '');
  truncateSync(path, 64 * MIB);
}

it('lseek: programs that are interrupted while the server is lost do not prevent reconnecting', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  createImage(image);
  const port = await freePort();
  const start = async (): Promise<Program> => {
    const program = new Program(scope, 'nbdkit', ['-f', '-i', 'localhost', '-p', `${port}`, 'file', image]);
    await untilListening({ host: '127.0.0.1', port });
    return program;
  };
  const server = await start();
  const disk = await mountDisk(scope, { server: [`nbd://localhost:${port}`], options: ['-C', '1'] });
  // More than the threads that node has for the names of hosts.
  const seekers = await Promise.all(Array.from({ length: 6 }, () => startSeeker(scope, disk.file)));
  const last = seekers[seekers.length - 1];
  await server.kill('SIGKILL');
  await disk.program.says(/the server is lost/);
  for (const { child, pid } of seekers) {
    const isWaiting = (): boolean => /request_wait/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'));
    child.stdin?.end('go\n');
    await until('lseek to wait for nbdfuse', isWaiting);
    if (pid === last.pid) break;
    child.kill('SIGTERM');
    await until('lseek to be interrupted', () => !isWaiting());
  }
  await start();
  expect(await last.ended).toBe(0);
  expect(last.stdout).toBe(`ready\n${8 * MIB}\n`);
  for (const seeker of seekers) await seeker.ended;
  expect(await disk.stop()).toBe(0);
});

it('lseek: ends when nbdfuse is killed while it waits for the server', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  createImage(image);
  const server = await startNbdkit(scope, 'file', image);
  const disk = await mountDisk(scope, { server: [server.uri()], options: ['-C', '1'] });
  const seeker = await startSeeker(scope, disk.file);
  await server.program.kill('SIGKILL');
  await disk.program.says(/the server is lost/);
  seeker.child.stdin?.end('go\n');
  await untilWritingBack(disk);
  await disk.program.kill('SIGKILL');
  expect(await seeker.ended).toBe(1);
  // ECONNABORTED or ENOTCONN.
  expect(seeker.stderr).toMatch(/\[Errno (103|107)\]/);
  await runProgram('umount', disk.mountpoint);
});

it('lseek: a server that nbdfuse started starts again while lseek waits for dirty pages', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  createImage(image);
  const pidfile = scope.path('server');
  const server = ['[', 'nbdkit', '-P', pidfile, 'file', image, ']'];
  const disk = await mountDisk(scope, { server, options: ['-C', '1', '--restart'] });
  const seeker = await startSeeker(scope, disk.file);
  const first = Number(readFileSync(pidfile, 'utf8'));
  rmSync(pidfile);
  process.kill(first, 'SIGKILL');
  seeker.child.stdin?.end('go\n');
  expect(await seeker.ended).toBe(0);
  expect(seeker.stdout).toBe(`ready\n${8 * MIB}\n`);
  expect(await disk.stop()).toBe(0);
});

it('without perl: SEEK_HOLE finds no hole in a file that is open for writing, and a file as mountpoint works', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  createImage(image);
  mkdirSync(scope.path('bin'));
  for (const name of ['sh', 'umount', 'sync']) {
    symlinkSync((await runProgram('sh', '-c', 'command -v "$0"', name)).trim(), scope.path('bin', name));
  }
  const program = { env: { PATH: scope.path('bin') } };
  const server = [(await startNbdkit(scope, 'file', image)).uri()];
  const disk = await mountDisk(scope, { server, program, form: 'existing file' });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write('x', 8 * MIB);
  await file.close();
  expect(readFileSync(image).indexOf('x')).toBe(8 * MIB);
  const other = await mountDisk(scope, { server, program, name: 'other' });
  const seeker = await startSeeker(scope, other.file);
  seeker.child.stdin?.end('go\n');
  expect(await seeker.ended).toBe(0);
  expect(seeker.stdout).toBe('ready\n0\n');
});

it('SEEK_HOLE: data in a mapping of a file whose export has disappeared is no hole', async () => {
  const scope = createScope();
  mkdirSync(scope.path('images'));
  for (const name of ['a', 'b']) createImage(scope.path('images', name));
  const server = await startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
  const { mountpoint } = await mountDisk(scope, { server: [server.uri()], options: ['--all'] });
  const seeker = await startSeeker(scope, `${mountpoint}/a`);
  rmSync(scope.path('images', 'a'));
  await until('the end of the name', () => readdirSync(mountpoint).join() === 'b');
  seeker.child.stdin?.end('go\n');
  expect(await seeker.ended).toBe(0);
  expect(seeker.stdout).toBe('ready\n0\n');
});
