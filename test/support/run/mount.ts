// Starts the built nbdfuse and returns its results.
//
// Used by every test on real servers, and by tools. The program runs as a user would start it; it is ready
// when its pidfile is written. The scope's end stops it in order and fails the test if that takes too long.

import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program, type ProgramOptions } from './program.js';
import type { Scope } from './scope.js';
import { until } from './until.js';

/** The nearest `bin/nbdfuse` above this file: tools are compiled into a folder of their own. */
function findProgram(): string {
  for (let url = new URL('..', import.meta.url); url.pathname !== '/'; url = new URL('..', url)) {
    const path = fileURLToPath(new URL('bin/nbdfuse', url));
    if (existsSync(path)) return path;
  }
  throw new Error('there is no bin/nbdfuse above the tests');
}

/** The program under test. */
export const NBDFUSE = findProgram();

/** The forms of MOUNTPOINT on the command line: DIR, DIR/FILENAME, FILE. */
export type MountpointForm = 'directory' | 'file name' | 'existing file';

/** The parameters of a mount. */
export interface MountRequest {
  /** The arguments after MOUNTPOINT: a URI, `[ CMD … ]` or another mode. */
  readonly server: readonly string[];
  readonly options?: readonly string[];
  readonly form?: MountpointForm;
  /** The program to run instead of nbdfuse, with the same arguments. */
  readonly command?: readonly string[];
  /** A command in front, as `setpriv …`. */
  readonly prefix?: readonly string[];
  readonly program?: ProgramOptions;
  /** Of this scope, when a test mounts more than once. */
  readonly name?: string;
}

/** The line about a mount that others have, too. Each mount namespace of a test beside has a copy for a moment. */
const IN_USE = /^nbdfuse: .* is in use: nbdfuse detached it .*\n/gm;

/** A disk that is mounted. */
export interface MountedDisk {
  /** The disk as a file. */
  readonly file: string;
  /** The directory or file that is mounted over. */
  readonly mountpoint: string;
  readonly pidfile: string;
  readonly program: Program;
  /** Standard error of nbdfuse and its children so far, without IN_USE. */
  readonly stderr: string;
  /** Sends SIGTERM and resolves with the exit status. */
  stop(signal?: NodeJS.Signals): Promise<number | string>;
}

/** Starts nbdfuse with these arguments; it may fail. */
export function startNbdfuse(
  scope: Scope,
  words: readonly string[],
  request: Pick<MountRequest, 'command' | 'prefix' | 'program'> = {},
): Program {
  const { prefix = [], command = [process.execPath, NBDFUSE], program = {} } = request;
  const [file, ...args] = [...prefix, ...command, ...words];
  return new Program(scope, file, args, program);
}

/**
 * Makes the mountpoint of a form; returns its argument, the path that is mounted over, and the disk's path.
 */
function createMountpoint(scope: Scope, form: MountpointForm, name: string) {
  const mountpoint = scope.path(name);
  const isNew = !readdirSync(scope.folder).includes(name);
  if (form === 'existing file') {
    if (isNew) writeFileSync(mountpoint, '');
    return { typed: mountpoint, mountpoint, file: mountpoint };
  }
  if (isNew) mkdirSync(mountpoint);
  if (form === 'file name') {
    const file = `${mountpoint}/disk.raw`;
    return { typed: file, mountpoint, file };
  }
  return { typed: mountpoint, mountpoint, file: `${mountpoint}/nbd` };
}

/** Mounts, and resolves when the disk can be used. @throws Error with nbdfuse's output if it ends before */
export async function mountDisk(scope: Scope, request: MountRequest): Promise<MountedDisk> {
  const { server, options = [], form = 'directory', name = 'mnt' } = request;
  const { typed, mountpoint, file } = createMountpoint(scope, form, name);
  // In a folder of its own, which a normal user may write into.
  const runFolder = scope.path(`${name}.run`);
  mkdirSync(runFolder, { recursive: true });
  chmodSync(runFolder, 0o777);
  const pidfile = `${runFolder}/pid`;
  // One that was killed with SIGKILL leaves its pidfile.
  rmSync(pidfile, { force: true });
  const program = startNbdfuse(scope, ['-P', pidfile, ...options, typed, ...server], request);
  scope.add(() => stopInOrder(program));
  await program.fills(pidfile);
  return {
    file,
    mountpoint,
    pidfile,
    program,
    get stderr() {
      return program.stderr.replace(IN_USE, '');
    },
    stop: (signal = 'SIGTERM') => program.kill(signal),
  };
}

/** Longer than the limit of an orderly stop. */
const STOP_LIMIT = 15_000;

async function stopInOrder(program: Program): Promise<void> {
  let isOver = false;
  void program.kill('SIGTERM').then(() => {
    isOver = true;
  });
  await until(`the end of nbdfuse after SIGTERM: ${program.stderr}`, () => isOver, STOP_LIMIT);
}
