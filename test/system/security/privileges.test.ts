// The privileges and descriptors of nbdfuse, and of the servers that it starts, while a disk is mounted.

import { readdir, readFile, readlink } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';

requirePrograms('nbdkit', 'setpriv', 'fusermount3');
requireRoot();

const [SETPRIV, ...WORDS] = AS_NORMAL_USER;
const NOBODY = '65534';

/** A field of /proc/PID/status. */
async function fieldOf(pid: number, name: string): Promise<string> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
}

/** The targets of the descriptors of a process, by their numbers. */
async function descriptorsOf(pid: number): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (const name of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${name}`).catch(() => undefined);
    if (target !== undefined) found.set(Number(name), target);
  }
  return found;
}

it('privileges: as a normal user neither nbdfuse nor its server has capabilities', async () => {
  const scope = createScope();
  admitNormalUser(scope);
  await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('mnt'));
  const request = { server: ['[', 'nbdkit', 'memory', '1M', ']'], prefix: AS_NORMAL_USER };
  const disk = await mountDisk(scope, request);
  const processes = await processesOf(scope.folder);
  const names = processes.map(({ command }) => /nbdfuse|nbdkit/.exec(command)?.[0]);
  expect(names).toContain('nbdkit');
  for (const { pid } of [...processes, disk.program]) {
    expect(await fieldOf(pid, 'Uid')).toBe(Array(4).fill(NOBODY).join('\t'));
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
      expect(await fieldOf(pid, set)).toMatch(/^0+$/);
  }
});

it.each([
  ['[ CMD ]', ['[', 'nbdkit', 'memory', '1M', ']']],
  ['--command', ['--command', 'nbdkit', '-s', 'memory', '1M']],
])(
  'privileges: a server started by %s inherits neither the device nor another connection',
  async (_, server) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server });
    const ours = await descriptorsOf(disk.program.pid);
    expect([...ours.values()]).toContain('/dev/fuse');
    const child = (await processesOf(scope.folder)).find(({ command }) => /^\S*nbdkit /.test(command));
    expect(child).toBeDefined();
    const theirs = await descriptorsOf(child?.pid ?? 0);
    expect([...theirs.values()]).not.toContain('/dev/fuse');
    // Besides the descriptors of the tests themselves, only the standard streams and the socket are shared.
    const inherited = [...(await descriptorsOf(process.pid)).values()];
    const shared = [...theirs].filter(
      ([, target]) => [...ours.values()].includes(target) && !inherited.includes(target),
    );
    for (const [number, target] of shared) {
      expect(number, target).toBeLessThanOrEqual(3);
      expect(target).toMatch(/^(pipe|socket|\/dev\/null)/);
    }
  },
);
