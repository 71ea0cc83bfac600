// The process that --unmount waits for: the pid in a file's attributes may be that of any process.

import { spawn } from 'node:child_process';
import { expect, it, onTestFinished } from 'vitest';
import { serverOf } from '../../../src/cli/commands/serving-process.js';
import {
  findProcess,
  isGroupRunning,
  isRunning,
  ownIdentity,
  runningProcess,
} from '../../../src/linux/process.js';
import { until } from '../../support/run/until.js';

const OWN = process.getuid?.() ?? 0;

/** A process with the name `name`, which may leave its own child unreaped. */
function start(name: string, line: string): number {
  const child = spawn('bash', ['-c', `exec -a ${name} bash -c '${line}'`], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child.pid ?? -1;
}

const isCalled = (pid: number, name: string) => until(name, () => runningProcess(pid)?.words[0] === name);

it('serving process: is an nbdfuse of the owner of the mount, and as old as the mount', async () => {
  const pid = start('nbdfuse', 'sleep 100; true');
  await isCalled(pid, 'nbdfuse');
  expect(serverOf({ pid, uptime: 0 }, { userId: OWN })).toMatchObject({ pid });
  expect(serverOf({ pid, uptime: 0 }, { userId: OWN + 1 })).toBeUndefined();
  expect(serverOf({ pid, uptime: 0 }, { userId: undefined })).toBeUndefined();
  expect(serverOf({ pid, uptime: 3600 }, { userId: OWN })).toBeUndefined();
});

it.each([1, 0, -1, 1.5, 2 ** 40, Number.NaN])('serving process: is not process %s', (pid) => {
  expect(serverOf({ pid, uptime: 0 }, { userId: OWN })).toBeUndefined();
});

it('serving process: another program does not count', async () => {
  const pid = start('other', 'sleep 100; true');
  await isCalled(pid, 'other');
  expect(serverOf({ pid, uptime: 0 }, { userId: OWN })).toBeUndefined();
  expect(serverOf(undefined, { userId: OWN })).toBeUndefined();
});

it('serving process: has ended when its parent does not reap it', async () => {
  const child = spawn('bash', ['-c', 'exec sleep 0.3 & echo $!; exec sleep 100'], { stdio: 'pipe' });
  onTestFinished(() => void child.kill('SIGKILL'));
  const pid = await new Promise<number>((resolve) =>
    child.stdout.once('data', (text) => resolve(Number(text))),
  );
  const found = runningProcess(pid);
  expect(found).toBeDefined();
  if (found === undefined) return;
  expect(isRunning(found)).toBe(true);
  expect(isRunning({ ...found, start: '1' })).toBe(false);
  await until('its end', () => !isRunning(found));
  // It is still there, as a zombie.
  expect(() => process.kill(pid, 0)).not.toThrow();
});

it('serving process: is the one with the pid, the start time and the namespace of the status', async () => {
  const own = ownIdentity();
  expect(own).toBeDefined();
  if (own === undefined) return;
  expect(findProcess(process.pid, own)).toBe(process.pid);
  // The pid was reused, and the other namespace is not here.
  expect(findProcess(process.pid, { ...own, start: own.start + 1 })).toBeUndefined();
  expect(findProcess(process.pid, { start: own.start + 1, pidNamespace: 1 })).toBe('hidden');
  const pid = start('nbdfuse', 'sleep 100; true');
  await isCalled(pid, 'nbdfuse');
  const other = { pid, uptime: 0, processStart: own.start, pidNamespace: own.pidNamespace };
  expect(serverOf(other, { userId: OWN })).toBeUndefined();
  expect(serverOf({ ...other, pidNamespace: 1 }, { userId: OWN })).toBe('hidden');
  const processStart = Number(runningProcess(pid)?.start);
  expect(serverOf({ ...other, processStart }, { userId: OWN })).toMatchObject({ pid });
});

it('process group: has ended when nobody reaps its processes', async () => {
  const child = spawn('bash', ['-c', 'setsid sleep 0.3 & echo $!; exec sleep 100'], { stdio: 'pipe' });
  onTestFinished(() => void child.kill('SIGKILL'));
  const group = await new Promise<number>((resolve) =>
    child.stdout.once('data', (text) => resolve(Number(text))),
  );
  await until('its start', () => isGroupRunning(group));
  await until('its end', () => !isGroupRunning(group));
  expect(process.kill(-group, 0)).toBe(true);
});
