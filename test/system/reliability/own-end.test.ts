// nbdfuse itself fails: a defect in either thread, no memory, a full disk, closed output. No hanging mount
// and no server remains, and the next start works.

import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'dd', 'prlimit', 'timeout');

const SERVER = ['[', 'nbdkit', '-f', 'memory', '64M', ']'];

/** The environment in which a module is loaded into every thread before the program. */
function withModule(scope: Scope, text: string): NodeJS.ProcessEnv {
  const path = scope.path('defect.mjs');
  writeFileSync(path, text);
  return { NODE_OPTIONS: `--import=${path}` };
}

async function expectNothingLeft(scope: Scope): Promise<void> {
  await until('the end of all processes', async () => (await processesOf(scope.folder)).length === 0, 7000);
  expect(await mountsBelow(scope.folder)).toEqual([]);
}

async function readSome({ file }: MountedDisk): Promise<void> {
  await runProgram('timeout', '20', 'dd', `if=${file}`, 'of=/dev/null', 'bs=1M', 'count=8');
}

const DEFECTS: [string, string, RegExp][] = [
  [
    'the main thread',
    `import { isMainThread } from 'node:worker_threads';
     if (isMainThread) process.on('SIGUSR2', () => { throw new Error('a broken main thread'); });`,
    /a broken main thread/,
  ],
  [
    'the worker',
    `import { isMainThread, workerData } from 'node:worker_threads';
     import { existsSync } from 'node:fs';
     const now = performance.now.bind(performance);
     let broken = false;
     if (isMainThread) process.on('SIGUSR2', () => {});
     else performance.now = () => {
       if (existsSync(process.env.NBDFUSE_TEST_SCOPE + '/break')) throw new Error('a broken worker');
       return now();
     };`,
    /a broken worker/,
  ],
];

it.each(DEFECTS)('a defect in %s: unmounts, ends the server and is reported', async (_, module, words) => {
  const scope = createScope();
  const program = { env: withModule(scope, module) };
  const disk = await mountDisk(scope, { server: SERVER, program });
  await readSome(disk);
  writeFileSync(scope.path('break'), '');
  disk.program.child.kill('SIGUSR2');
  // A request that wakes the worker.
  await tryProgram('timeout', '20', 'dd', `if=${disk.file}`, 'of=/dev/null', 'iflag=direct', 'count=1');
  expect(await disk.program.ended).toBe(1);
  expect(disk.stderr).toMatch(words);
  expect(disk.stderr).toMatch(/detaching the mount: /);
  await expectNothingLeft(scope);
});

it('without memory: nbdfuse ends, and the next start can use the mountpoint', async () => {
  const scope = createScope();
  const temporary = scope.path('tmp');
  mkdirSync(temporary);
  const program = { env: { TMPDIR: temporary } };
  const disk = await mountDisk(scope, { server: SERVER, options: ['--cache=none'], program });
  const status = await runProgram('grep', 'VmSize', `/proc/${disk.program.pid}/status`);
  const bytes = Number(/\d+/.exec(status)?.[0]) * 1024;
  await runProgram('prlimit', `--pid=${disk.program.pid}`, `--as=${bytes}`);
  const words = [`of=${disk.file}`, 'if=/dev/zero', 'bs=1M', 'count=64', 'conv=notrunc,nocreat'];
  await Promise.all([1, 2, 3, 4].map(() => tryProgram('timeout', '20', 'dd', ...words)));
  if (disk.program.child.exitCode === null) disk.program.child.kill('SIGABRT');
  await disk.program.ended;
  await until('the end of all processes', async () => (await processesOf(scope.folder)).length === 0, 7000);
  expect(readdirSync(temporary)).toEqual([]);
  const again = await mountDisk(scope, { server: SERVER });
  await readSome(again);
  expect(await again.stop()).toBe(0);
});

it('pidfile: if it cannot be written, nbdfuse unmounts and ends the server', async () => {
  const scope = createScope();
  const mountpoint = scope.path('mnt');
  mkdirSync(mountpoint);
  const program = startNbdfuse(scope, ['-P', '/dev/full', mountpoint, ...SERVER]);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(/^nbdfuse: cannot write the pidfile \S+: no space left on device/);
  await expectNothingLeft(scope);
});

it('standard error: nbdfuse continues without a reader of the pipe while the server writes', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, {
    server: ['[', 'nbdkit', '-fv', 'memory', '64M', ']'],
    options: ['-v'],
  });
  disk.program.child.stdout?.destroy();
  disk.program.child.stderr?.destroy();
  await readSome(disk);
  expect(await disk.stop()).toBe(0);
});

it.each([
  ['closed', ''],
  ['a full disk', '/dev/full'],
])('standard descriptors: nbdfuse continues when they are %s', async (_, path) => {
  const scope = createScope();
  const target = path === '' ? openSync('/dev/null', 'r') : openSync(path, 'w');
  const disk = await mountDisk(scope, {
    server: ['[', 'nbdkit', '-fv', 'memory', '64M', ']'],
    options: ['-v'],
    prefix: path === '' ? ['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'] : [],
    program: { stdio: ['ignore', target, target] },
  });
  closeSync(target);
  await readSome(disk);
  expect(await disk.stop()).toBe(0);
});
