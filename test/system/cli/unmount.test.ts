// --unmount where the serving process is hard to find, or does not end at once.

import { writeFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requireRoot();
requirePrograms('nbdkit', 'unshare', 'nsenter', 'mount', 'umount', 'perl');

/** Runs `line` of shell below a first process that never reaps its orphans. */
const NEVER_REAPS = `
my $child = fork // die;
if ($child == 0) { exec 'sh', '-c', $ARGV[0] or die }
waitpid $child, 0;
exit $? >> 8`;

/** A line of shell as the work of a container, whose first process does not reap; the mounts propagate from outside. */
function containerWords(line: string): readonly string[] {
  return ['-pfm', '--mount-proc', '--propagation', 'unchanged', 'perl', '-e', NEVER_REAPS, line];
}

it('--unmount: returns in a container whose first process does not reap', async () => {
  const scope = createScope();
  const mountpoint = scope.path('mnt');
  await runProgram('mkdir', mountpoint);
  const line = `node ${NBDFUSE} --daemon ${mountpoint} [ nbdkit memory 1M ] && node ${NBDFUSE} --unmount ${mountpoint} &&
    ps -e -o state=,args= | grep '^Z.*node'`;
  const words = ['-pfm', '--mount-proc', 'perl', '-e', NEVER_REAPS, line];
  const program = new Program(scope, 'unshare', words);
  expect([await program.ended, program.stderr]).toEqual([0, '']);
  // Its process was a zombie when --unmount returned.
  expect(program.stdout).toMatch(/^Z.*node/);
});

/** A directory whose mounts appear in mount namespaces that are made later. */
async function sharedDirectory(scope: Scope): Promise<string> {
  const shared = scope.path('shared');
  await runProgram('mkdir', shared);
  scope.add(() => runProgram('umount', '-R', '-l', shared));
  await runProgram('mount', '--bind', shared, shared);
  await runProgram('mount', '--make-shared', shared);
  await runProgram('mkdir', `${shared}/mnt`);
  return shared;
}

it('--unmount: waits for a process of a container, which has another pid here', async () => {
  const scope = createScope();
  const shared = await sharedDirectory(scope);
  const data = scope.path('data');
  writeFileSync(data, Buffer.alloc(1 << 20));
  // The server needs a second for its flush: --unmount must wait for it.
  const server = `[ nbdkit --filter=delay file ${data} wdelay=500ms ]`;
  const container = new Program(
    scope,
    'unshare',
    containerWords(`node ${NBDFUSE} -P ${scope.path('pid')} ${shared}/mnt ${server}`),
  );
  await container.fills(scope.path('pid'));
  expect(Number(await readFile(scope.path('pid'), 'utf8'))).toBeLessThan(100);
  const file = await open(`${shared}/mnt/nbd`, 'r+');
  await file.write('here');
  await file.close();
  const done = await tryProgram('node', NBDFUSE, '--unmount', `${shared}/mnt`);
  expect(done).toMatchObject({ status: 0, stdout: '' });
  // It says so when it waits for more than two seconds, as on a busy machine.
  expect(done.stderr).toMatch(/^(nbdfuse: \S+ is unmounted; waiting until process \d+ has ended\n)?$/);
  expect((await readFile(data)).subarray(0, 4).toString()).toBe('here');
  expect(await tryProgram('pgrep', '-f', `^\\S*node .*${scope.path('pid')}`)).toMatchObject({ stdout: '' });
  expect(await container.ended).toBe(0);
});

it('--unmount: says that it cannot wait for a process outside its container', async () => {
  const scope = createScope();
  const shared = await sharedDirectory(scope);
  const program = new Program(scope, 'node', [
    NBDFUSE,
    '-P',
    scope.path('pid'),
    `${shared}/mnt`,
    ...['[', 'nbdkit', 'memory', '1M', ']'],
  ]);
  await program.fills(scope.path('pid'));
  const line = `node ${NBDFUSE} --unmount ${shared}/mnt`;
  const container = new Program(scope, 'unshare', containerWords(line));
  expect(await container.ended).toBe(1);
  expect(container.stderr).toBe(
    `nbdfuse: ${shared}/mnt is unmounted, but its nbdfuse, in another PID namespace, may still be writing; ` +
      'to wait for it, use --unmount in its container\n',
  );
  expect(await program.ended).toBe(0);
});

/** Starts a disk whose server does not flush while the file `gate` exists. */
async function mountGated(scope: Scope) {
  const gate = scope.path('gate');
  writeFileSync(gate, '');
  const script = `case $1 in get_size) echo 1M ;; pread) head -c $3 /dev/zero ;; can_write | can_flush) ;;
    pwrite) cat >/dev/null ;; flush) while [ -e ${gate} ]; do sleep 0.1; done ;; *) exit 2 ;; esac`;
  writeFileSync(scope.path('plugin'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'sh', scope.path('plugin'), ']'] });
  return { disk, openGate: () => runProgram('rm', gate) };
}

it('--unmount: says that it waits for the process', async () => {
  const scope = createScope();
  const { disk, openGate } = await mountGated(scope);
  const file = await open(disk.file, 'r+');
  await file.write('late');
  await file.close();
  const unmounting = new Program(scope, 'node', [NBDFUSE, '--unmount', disk.mountpoint]);
  await unmounting.says(/waiting/);
  await openGate();
  expect(await unmounting.ended).toBe(0);
  expect(unmounting.stderr).toBe(
    `nbdfuse: ${disk.mountpoint} is unmounted; waiting until process ${disk.program.pid} has ended\n`,
  );
});

it('--unmount: names the process whose mount namespace still has the mount', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  const line = ['sh', '-c', 'echo ready; exec sleep 1000'];
  const holder = new Program(scope, 'unshare', ['-m', '--propagation', 'private', ...line]);
  await holder.says(/ready/);
  const { status, stderr } = await tryProgram('node', NBDFUSE, '--unmount', disk.mountpoint);
  expect(status).toBe(1);
  expect(stderr).toBe(
    `nbdfuse: ${disk.mountpoint} is unmounted, but process ${disk.program.pid} still serves the mount at ` +
      `${disk.mountpoint} in the mount namespace of process ${holder.pid} (sleep); end that process\n`,
  );
  await holder.kill('SIGTERM');
  expect(await disk.program.ended).toBe(0);
});

it('--unmount: names another place of the mount', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  const other = scope.path('an other');
  await runProgram('mkdir', other);
  await runProgram('mount', '--bind', disk.mountpoint, other);
  scope.add(() => tryProgram('umount', '-i', '-l', other));
  const unmount = (path: string) => tryProgram('node', NBDFUSE, '--unmount', path);
  expect(await unmount(disk.mountpoint)).toMatchObject({
    status: 1,
    stderr:
      `nbdfuse: ${disk.mountpoint} is unmounted, but process ${disk.program.pid} still serves the mount at ${other}; ` +
      `unmount that, too: nbdfuse --unmount '${other}'\n`,
  });
  expect(await unmount(other)).toMatchObject({ status: 0, stderr: '' });
  expect(await disk.program.ended).toBe(0);
});

it('--unmount: ends after 30 seconds when umount(8) does not, and leaves the mount there', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  await runProgram('mkdir', scope.path('bin'));
  writeFileSync(scope.path('bin/umount'), '#!/bin/sh\nexec sleep 1000\n', { mode: 0o755 });
  const env = { PATH: `${scope.path('bin')}:${process.env.PATH}` };
  const start = performance.now();
  const unmounting = new Program(scope, 'node', [NBDFUSE, '--unmount', disk.mountpoint], { env });
  await unmounting.says(/waiting until the kernel has unmounted .*; Ctrl-C ends the wait/);
  expect(await unmounting.ended).toBe(1);
  expect(performance.now() - start).toBeLessThan(35_000);
  expect(unmounting.stderr.split('\n').slice(1)).toEqual([
    `nbdfuse: cannot unmount ${disk.mountpoint}: umount does not end; fuser -vm ${disk.mountpoint} shows which ` +
      `programs use it; to detach it from them: fusermount3 -u -z ${disk.mountpoint}`,
    '',
  ]);
  expect(await tryProgram('node', NBDFUSE, '--unmount', disk.mountpoint)).toMatchObject({ status: 0 });
}, 60_000);
