// The sides that are compared: each turns an NBD URI into a mounted file.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd, start, whenWritten } from './processes.js';

/** A way to mount. */
export interface Side {
  readonly name: string;
  /** The command without mountpoint and URI. */
  readonly command: readonly string[];
}

/** A mounted file and the process behind it. */
export interface Mounted {
  readonly side: Side;
  readonly file: string;
  readonly pid: number;
  /** Milliseconds from start to ready. */
  readonly ready: number;
  unmount(): void;
}

/** The sides by name; `ours` can be another command. */
export function sides(ours: string | undefined): Record<'ours' | 'peer' | 'native', Side> {
  const own = ours === undefined ? ['node', 'bin/nbdfuse'] : ours.split(' ');
  return {
    ours: { name: 'nbdfuse', command: own },
    peer: { name: 'C nbdfuse', command: ['/usr/bin/nbdfuse'] },
    native: { name: 'fuse-native', command: [...own, '--fuse-backend=fuse-native'] },
  };
}

let count = 0;

/** Mounts `uri` by one side below `folder`. */
export async function mount(
  side: Side,
  folder: string,
  uri: string,
  environment: Readonly<Record<string, string>> = {},
  asNobody = false,
): Promise<Mounted> {
  const path = join(folder, `m${count++}`);
  mkdirSync(path);
  if (asNobody) execFileSync('chown', ['nobody', path]);
  const pidfile = `${path}.pid`;
  const who = asNobody ? ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'] : [];
  const before = performance.now();
  const child = start([...who, ...side.command, '-P', pidfile, path, uri], environment, 'inherit');
  const unmount = (): void => {
    execFileSync('umount', ['-l', path], { stdio: 'ignore' });
  };
  let mounted = true;
  const once = (): void => {
    if (mounted) unmount();
    mounted = false;
  };
  atEnd(once);
  await whenWritten(pidfile, child);
  const ready = performance.now() - before;
  return { side, file: join(path, 'nbd'), pid: child.pid ?? 0, ready, unmount: once };
}
