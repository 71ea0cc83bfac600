import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { until } from '../../support/run/until.js';
import {
  createMountpoint,
  createNamespace,
  type Form,
  look,
  order,
  startWitness,
  useMounter,
} from './mounting.js';
import type { Who } from './namespace.js';

const start = useMounter();

const EVERYBODY: readonly Who[] = ['root', 'nobody', 'namespace root'];
const FORMS: readonly Form[] = ['directory', 'regular empty file'];
const CASES = EVERYBODY.flatMap((who) => FORMS.map((form): [Who, Form] => [who, form]));

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(' ').map(Number);
}

/** The name of a process, empty when it has ended. */
async function nameOf(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const [, name = '', state = ''] = /\((.*)\) (.)/.exec(text) ?? [];
  return state === 'Z' ? '' : name;
}

describe.each(CASES)('attach: %s over a %s', (who, form) => {
  it('mounts, serves and unmounts', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path);
    const [line = '', ...more] = await namespace.mounts(path, program);
    expect(line).toMatch(
      / rw,nosuid,nodev,relatime - fuse\.nbdfuse nbdfuse rw,user_id=\d+,group_id=\d+,default_permissions$/,
    );
    expect(more).toEqual([]);
    expect(await look(namespace, who, program, path)).toEqual({ status: 0, stdout: `${form}\n`, stderr: '' });
    const witness = await startWitness(namespace, who, program);
    expect(await order(program, 'unmount')).toBe('done');
    expect(await program.ended, program.stderr).toBe(0);
    expect(program.stderr).toBe('');
    expect(await namespace.mounts(path, witness)).toEqual([]);
  });

  it('leaves no mount after SIGKILL with auto_unmount', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path, 'auto_unmount');
    const witness = await startWitness(namespace, who, program);
    expect(await namespace.mounts(path, witness)).toHaveLength(1);
    await program.kill('SIGKILL');
    await until('the mount to go', async () => (await namespace.mounts(path, witness)).length === 0);
  });

  it('ends the auto_unmount helper at an orderly unmount', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path, 'auto_unmount');
    const [guard] = await childrenOf(program.pid);
    expect(await nameOf(guard)).toBe('sh');
    expect(await order(program, 'unmount')).toBe('done');
    expect(await nameOf(guard)).toBe('');
    expect(await program.ended, program.stderr).toBe(0);
  });

  it('distinguishes a mount in use from other failures, and then detaches it lazily', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path);
    const witness = await startWitness(namespace, who, program, `exec 9<'${path}'`);
    expect(await order(program, 'unmount')).toMatchObject({
      errno: 16,
      message: expect.stringMatching(/^cannot unmount .*busy/i),
    });
    expect(await namespace.mounts(path, witness)).toHaveLength(1);
    expect(await order(program, 'lazy')).toBe('done');
    expect(await namespace.mounts(path, witness)).toEqual([]);
    await witness.kill('SIGKILL');
    expect(await program.ended, program.stderr).toBe(0);
  });
});

it('attach: passes on the mount options', async () => {
  const namespace = await createNamespace();
  const options = 'ro,noexec,noatime,max_read=65536,fsname=a\\,b c,subtype=disk';
  for (const who of ['root', 'nobody'] as const) {
    const path = await createMountpoint(namespace, who, 'directory');
    await start(namespace, who, path, options);
    const [line] = await namespace.mounts(path);
    expect(line).toMatch(/ ro,nosuid,nodev,noexec,noatime - fuse\.disk a,b\\040c ro,.*max_read=65536$/);
  }
});

it('attach: lets root allow devices and set-user-id programs', async () => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, 'root', 'directory');
  await start(namespace, 'root', path, 'dev,suid,allow_other');
  const [line] = await namespace.mounts(path);
  expect(line).toMatch(/ rw,relatime - fuse\.nbdfuse nbdfuse rw,.*allow_other$/);
});

it.each<[Who, string, string]>([
  ['root', '', '512'],
  ['root', 'max_readahead=262144', '256'],
  ['nobody', '', '128'],
])('attach: lets the kernel read ahead as far as %s may request (%s)', async (who, options, expected) => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, who, 'directory');
  await start(namespace, who, path, options);
  const [line = ''] = await namespace.mounts(path);
  const file = `/sys/class/bdi/${line.split(' ')[2]}/read_ahead_kb`;
  await until(`${expected} KiB`, async () => (await readFile(file, 'utf8')).trim() === expected);
});

describe('attach: another mount at the mountpoint', () => {
  it("below the mount of nbdfuse stays, when somebody else has unmounted nbdfuse's", async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'root', 'directory');
    await namespace.run('root', 'mount', '-t', 'tmpfs', 'beneath', path);
    const program = await start(namespace, 'root', path);
    expect(await namespace.mounts(path)).toHaveLength(2);
    // Kept until the order: its end would end the mounter.
    const witness = await startWitness(namespace, 'root', program, `exec 9<'${path}'`);
    await namespace.run('root', 'umount', '-l', path);
    expect(await order(program, 'unmount')).toBe('done');
    expect(await namespace.mounts(path)).toEqual([expect.stringMatching(/ - tmpfs beneath /)]);
    await witness.kill('SIGKILL');
    expect(await program.ended, program.stderr).toBe(0);
  });

  it('on top of the mount of nbdfuse stays', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'root', 'directory');
    const program = await start(namespace, 'root', path);
    await namespace.run('root', 'mount', '-t', 'tmpfs', 'above', path);
    expect(await order(program, 'unmount')).toMatchObject({
      errno: 16,
      message: expect.stringMatching(/another mount covers it/),
    });
    expect(await namespace.mounts(path)).toHaveLength(2);
    await namespace.run('root', 'umount', path);
    expect(await order(program, 'unmount')).toBe('done');
    expect(await program.ended, program.stderr).toBe(0);
  });
});
