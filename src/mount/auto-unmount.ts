// auto_unmount: a small process of its own that outlives us and removes the mount when we were killed.
//
// fusermount3 has this too, but as a normal user's helper it cannot look at that user's mount, and then
// leaves it. Ours waits for the other end of its standard input to close, which the kernel sees to
// whatever ends us, and removes the mount only if that is dead: it may be somebody else's by then.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeDescriptor, socketpair } from '../os/socket.js';
import type { MountEntry } from './mount-table.js';

/**
 * $1: number and device of the mount, $2: its path. The kernel may close our end of the socket a little
 * before it declares the mount dead, hence the loop. It still knows the attributes of a dead mount's root,
 * so only opening tells.
 */
const SCRIPT = `
read -r _
tries=50
while [ $tries -gt 0 ]; do
  mounted=
  while read -r id _ device _; do
    if [ "$id $device" = "$1" ]; then mounted=yes; fi
  done </proc/self/mountinfo
  if [ -z "$mounted" ]; then exit 0; fi
  if ! ( : <"$2" ) 2>/dev/null; then break; fi
  tries=$((tries - 1))
  sleep 0.1
done
if [ $tries -eq 0 ]; then exit 0; fi
umount -i -l -- "$2" || fusermount3 -u -z -q -- "$2"
`;

/** A guard over a mount. */
export interface Guard {
  /** Ends the guard; the mount is nobody's business any more. */
  release(): Promise<void>;
}

/** Sets a guard over a mount. @throws Error when the shell cannot be started */
export async function guardMount({ id, device, path }: MountEntry): Promise<Guard> {
  const [ours, theirs] = socketpair();
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'nbdfuse-auto-unmount', `${id} ${device}`, path], {
    stdio: [theirs, 'ignore', 'ignore'],
    cwd: '/',
    // A session of its own: what the terminal sends to us is not for it.
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
