import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createScope, Scope } from '../helpers/cleanup.js';
import type { Program } from '../helpers/program.js';
import { until } from '../helpers/until.js';
import { buildProgram } from '../os/build.js';
import { Namespace, type Who } from './namespace.js';

const building = new Scope();
let mounter = '';

beforeAll(async () => {
  mounter = await buildProgram(building, resolve(import.meta.dirname, 'mounter.ts'));
});
afterAll(() => building.close());

async function createNamespace(extra?: string): Promise<Namespace> {
  const namespace = new Namespace(createScope(), extra);
  await namespace.ready;
  return namespace;
}

/** Makes a mountpoint of a form in the user's folder. */
async function createMountpoint(namespace: Namespace, who: Who, form: string): Promise<string> {
  const path = namespace.path(who, 'mountpoint');
  const made = await namespace.run(who, form === 'directory' ? 'mkdir' : 'touch', path);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  return path;
}

async function start(namespace: Namespace, who: Who, text: string, ...options: string[]): Promise<Program> {
  const program = namespace.start(who, [process.execPath, mounter, text, ...options]);
  await program.says(/\n/);
  return program;
}

/** Gives a mounter an order and returns its answer. */
async function order(program: Program, word: 'unmount' | 'lazy'): Promise<unknown> {
  const before = program.stdout.split('\n').length;
  program.child.stdin?.write(`${word}\n`);
  await program.says(new RegExp(`^(?:.*\\n){${before}}`));
  return JSON.parse(program.stdout.split('\n')[before - 1]);
}

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

const EVERYBODY: readonly Who[] = ['root', 'nobody', 'namespace root'];
const FORMS = ['directory', 'regular empty file'];
const CASES = EVERYBODY.flatMap((who) => FORMS.map((form): [Who, string] => [who, form]));

/** What stat(1) sees, from inside the namespaces of the mounter. */
function look(namespace: Namespace, who: Who, program: Program, path: string) {
  if (who !== 'namespace root') return namespace.run(who, 'stat', '--format=%F', path);
  const enter = ['nsenter', `--target=${program.pid}`, '--user', '--mount', '--preserve-credentials'];
  return namespace.run('nobody', ...enter, 'stat', '--format=%F', path);
}

describe.each(CASES)('%s over a %s', (who, form) => {
  it('mounts, serves and unmounts', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path);
    const [line = '', ...more] = await namespace.mounts(path, program);
    expect(line).toMatch(
      / rw,nosuid,nodev,relatime .* - fuse\.nbdfuse nbdfuse rw,user_id=\d+,.*default_permissions/,
    );
    expect(more).toEqual([]);
    expect(await look(namespace, who, program, path)).toEqual({ status: 0, stdout: `${form}\n`, stderr: '' });
    expect(await order(program, 'unmount')).toBe('done');
    expect(await program.ended).toBe(0);
    expect(program.stderr).toBe('');
    expect(await namespace.mounts(path)).toEqual([]);
  });

  it('leaves no mount behind after SIGKILL with auto_unmount', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path, 'auto_unmount');
    // The guard is a child of the mounter, in the same namespaces; it tells what is left.
    const [guard] = await childrenOf(program.pid);
    expect(await namespace.mounts(path, program)).toHaveLength(1);
    await program.kill('SIGKILL');
    await until('the end of the guard', async () => (await nameOf(guard)) !== 'sh');
    expect(await namespace.mounts(path)).toEqual([]);
  });

  it('ends the guard of auto_unmount when it unmounts in order', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const program = await start(namespace, who, path, 'auto_unmount');
    const [guard] = await childrenOf(program.pid);
    expect(await nameOf(guard)).toBe('sh');
    expect(await order(program, 'unmount')).toBe('done');
    expect(await nameOf(guard)).toBe('');
    expect(await program.ended).toBe(0);
  });
});
