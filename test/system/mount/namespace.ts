// A mount namespace for a test, in which everybody may open /dev/fuse.
//
// Its mounts are invisible outside, and it ends with its processes. It unmounts its copies of other FUSE
// mounts at the start, which would keep these alive.

import { chmodSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Scope } from '../../support/cleanup.js';
import { type Outcome, tryProgram } from '../../support/run/command.js';
import { Program } from '../../support/run/program.js';
import { requireProgram, requirePrograms, requireRoot } from '../../support/run/requires.js';

requireRoot();
requirePrograms('unshare', 'nsenter', 'setpriv', 'fusermount3', 'mount', 'umount');

/** $1: an empty folder; $2: a further line of shell. */
const SET_UP = `
set -e
tac /proc/self/mountinfo | awk '$0 ~ / - fuse/ { print $5 }' | while read -r path; do umount -l "$path" || true; done
mount -t tmpfs -o mode=755 world "$1"
mkdir "$1/nobody" "$1/root" && chown nobody "$1/nobody"
if [ -e /dev/fuse ]; then
  mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse
fi
eval "$2"
echo ready
exec sleep infinity
`;

/**
 * The user who acts: root, a normal user, a normal user who is root in a user namespace, or root as in a
 * container.
 */
export type Who = 'root' | 'nobody' | 'namespace root' | 'root without SYS_ADMIN';

const NOBODY = [requireProgram('setpriv'), '--reuid=nobody', '--regid=nogroup', '--clear-groups'];
const PREFIXES: Readonly<Record<Who, readonly string[]>> = {
  root: [],
  nobody: NOBODY,
  'namespace root': [...NOBODY, requireProgram('unshare'), '-Urm'],
  'root without SYS_ADMIN': [requireProgram('setpriv'), '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'],
};

/** See the file's head. */
export class Namespace {
  /** A folder that the given user owns. */
  readonly #folder: string;
  readonly #scope: Scope;
  readonly #holder: Program;

  constructor(scope: Scope, extra = '') {
    this.#scope = scope;
    this.#folder = scope.path('world');
    chmodSync(scope.folder, 0o755);
    mkdirSync(this.#folder);
    const script = ['sh', '-c', SET_UP, 'sh', this.#folder, extra];
    this.#holder = new Program(scope, 'unshare', ['-m', '--propagation', 'private', ...script]);
  }

  /** Resolves when it can be used. */
  get ready(): Promise<void> {
    return this.#holder.says(/ready/);
  }

  /** A path in a folder that the user owns. */
  path(who: Who, name: string): string {
    return `${this.#folder}/${who.startsWith('root') ? 'root' : 'nobody'}/${name}`;
  }

  #words(who: Who, words: readonly string[]): string[] {
    return [`--target=${this.#holder.pid}`, '--mount', '--', ...PREFIXES[who], ...words];
  }

  /** Starts a program in here; its standard input is a pipe. */
  start(who: Who, words: readonly string[], env: NodeJS.ProcessEnv = {}): Program {
    return new Program(this.#scope, requireProgram('nsenter'), this.#words(who, words), {
      stdio: 'pipe',
      env,
    });
  }

  /** Runs a program in here to its end. */
  run(who: Who, ...words: readonly string[]): Promise<Outcome> {
    return tryProgram('nsenter', ...this.#words(who, words));
  }

  /**
   * The lines of the mount table about `path`, as a process sees it (default: a process in the namespace).
   */
  async mounts(path: string, program = this.#holder): Promise<string[]> {
    const table = await readFile(`/proc/${program.pid}/mountinfo`, 'utf8');
    return table.split('\n').filter((line) => line.split(' ')[4] === path);
  }
}
