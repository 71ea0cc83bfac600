// The process that --unmount waits for: the pid in a file's attributes may be that of any process.

import { spawn } from 'node:child_process';
import { expect, it, onTestFinished } from 'vitest';
import { serverOf } from '../../../src/cli/commands/serving-process.js';
import { isRunning, runningProcess } from '../../../src/linux/process.js';
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
