// The sides that are compared: each turns a server into a file. A side is a way to mount; mount()
// starts it and gives the file and the process behind it.

import { type ChildProcess, execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AS_NOBODY, atEnd, start, whenEnded, whenWritten } from './processes.js';
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

/** nbdfuse on its second backend. */
export function nativeSide(command: string | undefined): Side {
  return { name: 'fuse-native', command: [...oursSide(command).command, '--fuse-backend=fuse-native'] };
}

const NOBODY_UID = 65_534;
let count = 0;

/** Mounts `target` by one side below `folder`, as a normal user if requested. */
export async function mount(
  side: Side,
  folder: string,
  { uri, environment }: Pick<Target, 'uri' | 'environment'>,
  asNobody = false,
): Promise<Mounted> {
  const path = join(folder, `m${count++}`);
  mkdirSync(path);
  if (asNobody) chownSync(path, NOBODY_UID, NOBODY_UID);
  const pidfile = join(folder, `p${count++}`);
  if (asNobody) {
    writeFileSync(pidfile, '');
    chownSync(pidfile, NOBODY_UID, NOBODY_UID);
  }
  const before = performance.now();
  const argv = [...(asNobody ? AS_NOBODY : []), ...side.command, '-P', pidfile, path, uri];
  const child = start(argv, environment, 'inherit');
  return whenMounted(child, path, join(path, 'nbd'), before, () => whenWritten(pidfile, child));
}

/** The FUSE export of qemu-storage-daemon on a qcow2 image: the other way to get that as a file. */
export async function mountImage(image: string, folder: string): Promise<Mounted> {
  const file = join(folder, `q${count++}`);
  writeFileSync(file, '');
  const pidfile = join(folder, `p${count++}`);
  const before = performance.now();
  const child = start(
    [
      'qemu-storage-daemon',
      '--blockdev',
      `driver=file,node-name=file,filename=${image}`,
      '--blockdev',
      'driver=qcow2,node-name=disk,file=file',
      '--export',
      `type=fuse,id=export,node-name=disk,mountpoint=${file},writable=on`,
      '--pidfile',
      pidfile,
    ],
    {},
    'inherit',
  );
  const mounted = await whenMounted(child, file, file, before, () => whenWritten(pidfile, child));
  const unmount = async (): Promise<void> => {
    // It serves on when its file is unmounted, and unmounts by itself at SIGTERM.
    child.kill('SIGTERM');
    await whenEnded(child, 10_000);
    await mounted.unmount();
  };
  return { ...mounted, unmount };
}

const isMounted = (path: string): boolean =>
  readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);

async function whenMounted(
  child: ChildProcess,
  path: string,
  file: string,
  before: number,
  isReady: () => Promise<void>,
): Promise<Mounted> {
  const detach = (): void => {
    if (isMounted(path)) execFileSync('umount', ['-l', path], { stdio: 'ignore' });
  };
  atEnd(detach);
  await isReady();
  const ready = performance.now() - before;
  const unmount = async (): Promise<void> => {
    detach();
    await whenEnded(child, 10_000);
  };
  return { file, pid: child.pid ?? 0, ready, unmount };
}
