// The sides that are compared: each turns a server into a file. A side is a way to mount; mount()
// starts it and gives the file and the process behind it.

import { execFileSync } from 'node:child_process';
import { chownSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mountDisk } from '../../test/support/run/mount.js';
import { AS_NORMAL_USER, NOBODY } from '../../test/support/run/normal-user.js';
import { Program } from '../../test/support/run/program.js';
import type { Scope } from '../../test/support/run/scope.js';
import type { Target } from './servers.js';

/** A way to mount: the command without mountpoint and URI. */
export interface Side {
  readonly name: string;
  readonly command: readonly string[];
}

/** A mounted file and the process behind it. */
export interface Mounted {
  readonly file: string;
  readonly pid: number;
  /** Milliseconds from start to ready. */
  readonly ready: number;
  /** Unmounts, and waits until the process has ended. */
  unmount(): Promise<void>;
}

export const PEER: Side = { name: 'C nbdfuse', command: ['/usr/bin/nbdfuse'] };
const OWN = ['node', 'bin/nbdfuse'];

/** nbdfuse itself; another command can take its place. */
export function oursSide(command: string | undefined): Side {
  return { name: 'nbdfuse', command: command === undefined ? OWN : command.split(' ') };
}

/** nbdfuse by another Node.js, for which it gets V8's code caches. */
export function sideOfNode(node: string): Side {
  execFileSync(node, ['dist/program/write-caches.js']);
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim().slice(1);
  return { name: `nbdfuse, Node.js ${version}`, command: [node, 'bin/nbdfuse'] };
}

/** nbdfuse on its second backend. */
export function nativeSide(command: string | undefined): Side {
  return { name: 'fuse-native', command: [...oursSide(command).command, '--fuse-backend=fuse-native'] };
}

/** The installed program with QEMU's FUSE export. */
export const STORAGE_DAEMON: Side = { name: 'qemu-storage-daemon', command: ['qemu-storage-daemon'] };

/** Another version of a side, as a command of several words. @throws Error if the command tells no version */
export function otherVersion({ name }: Side, command: string): Side {
  const words = command.split(' ');
  const text = execFileSync(words[0], [...words.slice(1), '--version'], { encoding: 'utf8' });
  const [version] = /\d+(\.\d+)+/.exec(text) ?? [];
  if (version === undefined) throw new Error(`${command} --version tells no version`);
  return { name: `${name} ${version}`, command: words };
}

/** Milliseconds that a process may take to end after its file is unmounted. */
const END_LIMIT = 10_000;

/** Only the errors of a side's output are of use. */
const ERRORS_ONLY = ['ignore', 'ignore', 'inherit'] as const;

let count = 0;

/** The source of a mount, and its options. */
export interface MountWords {
  /** The arguments after the mountpoint: a URI, an image, `--command` and its words. */
  readonly server: readonly string[];
  readonly options?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** Mounts `target` by one side below the scope's folder, as a normal user if requested. */
export const mount = (
  scope: Scope,
  side: Side,
  { uri, environment }: Pick<Target, 'uri' | 'environment'>,
  asNobody = false,
): Promise<Mounted> => mountWords(scope, side, { server: [uri], environment }, asNobody);

/** The same for anything that a side can mount. */
export async function mountWords(
  scope: Scope,
  side: Side,
  { server, options, environment = {} }: MountWords,
  asNobody = false,
): Promise<Mounted> {
  const name = `m${count++}`;
  const path = scope.path(name);
  mkdirSync(path);
  if (asNobody) chownSync(path, NOBODY, NOBODY);
  const before = performance.now();
  const { file, program } = await mountDisk(scope, {
    name,
    server,
    options,
    command: side.command,
    prefix: asNobody ? AS_NORMAL_USER : [],
    program: { env: environment, stdio: [...ERRORS_ONLY] },
  });
  const ready = performance.now() - before;
  const unmount = async (): Promise<void> => {
    detach(path);
    await program.endsWithin(END_LIMIT);
  };
  return { file, pid: program.pid, ready, unmount };
}

/** The FUSE export of a qemu-storage-daemon on its copy of a qcow2 image: the other way to get that as a file. */
export async function mountImage(scope: Scope, { command }: Side, image: string): Promise<Mounted> {
  const [file, pidfile] = [scope.path(`q${count++}`), scope.path(`p${count++}`)];
  writeFileSync(file, '');
  const own = scope.path(`i${count++}`);
  copyFileSync(image, own);
  const before = performance.now();
  const [daemon, ...words] = [
    ...command,
    '--blockdev',
    `driver=file,node-name=file,filename=${own}`,
    '--blockdev',
    'driver=qcow2,node-name=disk,file=file',
    '--export',
    `type=fuse,id=export,node-name=disk,mountpoint=${file},writable=on`,
    '--pidfile',
    pidfile,
  ];
  const program = new Program(scope, daemon, words, { stdio: [...ERRORS_ONLY] });
  await program.fills(pidfile);
  const ready = performance.now() - before;
  const unmount = async (): Promise<void> => {
    // It keeps serving when its file is unmounted, and unmounts at SIGTERM.
    program.child.kill('SIGTERM');
    await program.endsWithin(END_LIMIT);
    detach(file);
  };
  return { file, pid: program.pid, ready, unmount };
}

/** Unmounts the path if something is mounted there. */
function detach(path: string): void {
  const isMounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
  if (isMounted) execFileSync('umount', ['-l', path], { stdio: 'ignore' });
}
