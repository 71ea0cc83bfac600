// lseek(2) for holes in a file with dirty pages in the kernel that cannot be written back at once.

import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
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
