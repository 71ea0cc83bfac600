import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { release } from 'node:os';
import { expect, it } from 'vitest';
import { isSince } from '../../../src/linux/kernel.js';
import { exitStatusOf, openPidfd } from '../../../src/linux/pidfd.js';
import { closeDescriptor } from '../../../src/linux/socket.js';

/** Linux 6.15 tells how a process has ended. */
const tells = isSince(release(), 6, 15);

it.each([
  ['exit 0', 0],
  ['exit 7', 7],
  ['kill -TERM $$', 143],
])('a pidfd tells the exit status of a process: %s', async (line, status) => {
  const child = spawn('sh', ['-c', `read go; ${line}`], { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(child, 'spawn');
  const descriptor = openPidfd(child.pid ?? 0);
  try {
    if (tells) expect(exitStatusOf(descriptor)).toBe('pending');
    child.stdin.end('\n');
    await once(child, 'exit');
    expect(exitStatusOf(descriptor)).toBe(tells ? status : undefined);
  } finally {
    closeDescriptor(descriptor);
  }
});

it('a pidfd: there is none of a number without a process', () => {
  expect(openPidfd(2 ** 30)).toBeLessThan(0);
});
