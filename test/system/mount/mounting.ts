// Mounts by the program mounter.ts in a namespace, for the tests of this folder.

import { resolve } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import type { Outcome } from '../../support/run/command.js';
import type { Program } from '../../support/run/program.js';
import { Scope } from '../../support/run/scope.js';
import { buildProgram } from '../../unit/linux/build.js';
import { Namespace, type Who } from './namespace.js';

/** Kinds of mountpoints, as stat(1) calls them. */
export type Form = 'directory' | 'regular empty file';

/** Starts a mounter on a mountpoint, with a text for -o; resolves after its first output. */
export type StartMounter = (
  namespace: Namespace,
  who: Who,
  text: string,
  options?: string,
  env?: NodeJS.ProcessEnv,
) => Promise<Program>;

/** Builds the mounter for a test file. */
export function useMounter(): StartMounter {
  const scope = new Scope();
  let path = '';
  beforeAll(async () => {
    path = await buildProgram(scope, resolve(import.meta.dirname, 'mounter.ts'));
  });
  afterAll(() => scope.close());
  return async (namespace, who, text, options = '', env = {}) => {
    const program = namespace.start(who, [process.execPath, path, text, options], env);
    await program.says(/\n/);
    return program;
  };
}

/** A namespace that ends with the test; `extra` is a line of shell for its set-up. */
export async function createNamespace(extra?: string): Promise<Namespace> {
  const namespace = new Namespace(createScope(), extra);
  await namespace.ready;
  return namespace;
}

/** Makes a mountpoint in the user's folder. */
export async function createMountpoint(namespace: Namespace, who: Who, form: Form): Promise<string> {
  const path = namespace.path(who, 'mountpoint');
  const made = await namespace.run(who, form === 'directory' ? 'mkdir' : 'touch', path);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  return path;
}

/** Gives a mounter an order and returns its answer. */
export async function order(program: Program, word: 'unmount' | 'lazy'): Promise<unknown> {
  const before = program.stdout.split('\n').length;
  program.child.stdin?.write(`${word}\n`);
  await program.says(new RegExp(`^(?:.*\\n){${before}}`));
  return JSON.parse(program.stdout.split('\n')[before - 1]);
}

function inside(who: Who, program: Program, words: readonly string[]): readonly string[] {
  if (who !== 'namespace root') return words;
  return ['nsenter', `--target=${program.pid}`, '--user', '--mount', '--preserve-credentials', ...words];
}

const outside = (who: Who): Who => (who === 'namespace root' ? 'nobody' : who);

/** The kind of file that stat(1) sees where a mounter has mounted. */
export function look(namespace: Namespace, who: Who, program: Program, path: string): Promise<Outcome> {
  return namespace.run(outside(who), ...inside(who, program, ['stat', '--format=%F', path]));
}

/** A process that sees the same mounts as a mounter, outlives it, and has done `first`, a line of shell. */
export async function startWitness(
  namespace: Namespace,
  who: Who,
  program: Program,
  first = ':',
): Promise<Program> {
  const words = ['sh', '-c', `${first}; echo here; exec sleep infinity`];
  const witness = namespace.start(outside(who), inside(who, program, words));
  await witness.says(/here/);
  return witness;
}
