// auto_unmount: a small process that outlives us and removes the mount when we were killed.
//
// fusermount3 has this too, but as a normal user's helper it cannot access that user's mount, and leaves it. Ours waits
// until its standard input is closed, which the kernel does however we end. It removes the mount only if that is dead:
// another process may have mounted there by then.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeDescriptor, socketpair } from '../linux/socket.js';
import type { MountEntry } from './mount-table.js';

/**
 * $1: number and device of the mount. The kernel may close our end of the socket shortly before it declares the mount
 * dead, hence the loop. It caches the attributes of a dead mount's root, so only open(2) shows the death. The last
 * mount at a path in the table is the topmost. The script changes into the parent directory, and checks and unmounts
 * a name in it, wherever the path leads meanwhile. \`x\` keeps newlines at the end of names.
 */
const SCRIPT = `
read -r _
tries=50
while [ $tries -gt 0 ]; do
  path=
  top=
  while read -r id _ device _ at _; do
    if [ "$id $device" = "$1" ]; then path=$at; top=yes
    elif [ "$at" = "$path" ]; then top=; fi
  done </proc/self/mountinfo
  if [ -z "$path" ]; then exit 0; fi
  path=$(printf "$(printf %s "$path" | sed s/%/%%/g)"; echo x)
  path=\${path%x}
  name=\${path##*/}
  if [ -n "$top" ] && cd -P -- "\${path%"$name"}" && ! ( : <"/proc/self/cwd/$name" ) 2>/dev/null; then break; fi
  tries=$((tries - 1))
  sleep 0.1
done
if [ $tries -eq 0 ]; then exit 0; fi
umount -i -c -l -- "/proc/self/cwd/$name" || fusermount3 -u -z -q -- "/proc/self/cwd/$name"
`;

/** The guard process of a mount. */
export interface Guard {
  /** Ends the guard process, and leaves the mount alone. */
  release(): Promise<void>;
}

/** Starts the guard process of a mount. @throws Error when the shell cannot be started */
export async function guardMount({ id, device }: MountEntry): Promise<Guard> {
  const [ours, theirs] = socketpair();
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'nbdfuse-auto-unmount', `${id} ${device}`], {
    stdio: [theirs, 'ignore', 'ignore'],
    cwd: '/',
    // Paths are bytes.
    env: { ...process.env, LC_ALL: 'C' },
    // A session of its own: signals from our terminal must not reach it.
    detached: true,
  });
  closeDescriptor(theirs);
  try {
    await once(child, 'spawn');
  } catch (error) {
    closeDescriptor(ours);
    throw error;
  }
  child.unref();
  return {
    release: async () => {
      const exit = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
      child.ref();
      child.kill();
      await exit;
      closeDescriptor(ours);
    },
  };
}
