// Mounts as a normal user: the setuid helper fusermount3 mounts and sends the descriptor back.
//
// The helper uses the socket whose number is in _FUSE_COMMFD, and ends when it has sent. Waiting for it is
// asynchronous: it may access mounts that this process serves.

import { pathThrough } from '../linux/path.js';
import { closeDescriptor, receiveDescriptor, setNonBlocking, socketpair } from '../linux/socket.js';
import { MountError } from './errors.js';
import type { Mountpoint } from './mountpoint.js';
import { type Outcome, runProgram } from './programs.js';

function explain(outcome: Outcome): string {
  const text = outcome.errorText;
  if (outcome.missing) return `there is no fusermount3; install it: ${outcome.remedy}`;
  if (/user_allow_other/.test(text)) {
    return 'normal users may not use allow_other and allow_root; as root, add the line user_allow_other to /etc/fuse.conf';
  }
  const line = text.split('\n')[0].replace(/^fusermount3?: /, '') || 'fusermount3 did not say why';
  return /\/dev\/fuse/.test(line) ? `${line}; as root, allow it: chmod 666 /dev/fuse` : line;
}

/** The helper's descriptor of the mountpoint's directory, after that of its socket. */
const DIRECTORY = 4;

/**
 * Mounts with `options` as fusermount3's -o takes them. Returns the /dev/fuse descriptor,
 * non-blocking. The helper resolves the descriptor to a path, and uses that with the rights of its user.
 * @throws MountError
 */
export async function mountByHelper(mountpoint: Mountpoint, options: readonly string[]): Promise<number> {
  const [ours, theirs] = socketpair();
  try {
    setNonBlocking(ours);
    const { directory, name } = mountpoint.target.place;
    const command = ['fusermount3', '-o', options.join(','), '--'] as const;
    const inherited = [theirs, directory];
    const environment = { _FUSE_COMMFD: '3' };
    const running = runProgram(command, pathThrough(DIRECTORY, name), { inherited, environment });
    closeDescriptor(theirs);
    const outcome = await running;
    const device = receiveDescriptor(ours);
    if (typeof device !== 'number')
      throw new MountError(`cannot mount ${mountpoint.text}: ${explain(outcome)}`);
    setNonBlocking(device);
    return device;
  } finally {
    closeDescriptor(ours);
  }
}
