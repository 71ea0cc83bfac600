// Mounting as a normal user: the setuid helper fusermount3 mounts and sends the descriptor back.
//
// It speaks over a socket whose number it finds in _FUSE_COMMFD. With auto_unmount the helper stays,
// and unmounts when the other end of that socket closes, that is when this process is gone.

import { spawn } from 'node:child_process';
import { closeDescriptor, receiveDescriptor, setNonBlocking, socketpair } from '../os/socket.js';
import { MountError } from './errors.js';
import type { Mountpoint } from './mountpoint.js';

/** Milliseconds for the helper to answer, and between two looks whether it has. */
const PATIENCE = 10_000;
const LOOK = 2;

const later = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });

/** What the helper's words mean for the user. */
function explain(text: string): string {
  const line = text.split('\n').find((one) => one !== '') ?? 'fusermount3 did not say why';
  if (/user_allow_other/.test(text)) {
    return "allow_other and allow_root need root's permission; put the line user_allow_other into /etc/fuse.conf";
  }
  if (/\/dev\/fuse/.test(text)) return `${line}; load the module: modprobe fuse, or let users open /dev/fuse`;
  return line.replace(/^fusermount3?: /, '');
}

/** A mount made by the helper. */
export interface HelperMount {
  /** The /dev/fuse descriptor. */
  readonly device: number;
  /** Keeps the helper waiting, with auto_unmount; close it to let it go. */
  readonly leash: number | undefined;
}

/** Mounts with `options` as fusermount3's -o takes them. @throws MountError */
export async function mountByHelper(
  mountpoint: Mountpoint,
  options: readonly string[],
  autoUnmount: boolean,
): Promise<HelperMount> {
  const [ours, theirs] = socketpair();
  setNonBlocking(ours);
  let errorText = '';
  let ended = false;
  let missing = false;
  const child = spawn('fusermount3', ['-o', options.join(','), '--', mountpoint.path], {
    stdio: ['ignore', 'ignore', 'pipe', theirs],
    env: { ...process.env, LC_ALL: 'C', _FUSE_COMMFD: '3' },
    detached: autoUnmount,
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    errorText = (errorText + chunk.toString('utf8')).slice(0, 4096);
  });
  child.on('error', (error) => {
    missing = 'code' in error && error.code === 'ENOENT';
    ended = true;
  });
  child.on('close', () => {
    ended = true;
  });
  closeDescriptor(theirs);
  try {
    const device = await awaitDescriptor(ours, () => ended);
    if (device === undefined) {
      if (missing)
        throw new MountError('mounting: there is no fusermount3; install it: apt-get install fuse3');
      throw new MountError(`mounting ${mountpoint.text}: ${explain(errorText)}`);
    }
    setNonBlocking(device);
    if (!autoUnmount) closeDescriptor(ours);
    else {
      child.unref();
      (child.stderr as unknown as { unref?: () => void } | null)?.unref?.();
    }
    return { device, leash: autoUnmount ? ours : undefined };
  } catch (error) {
    closeDescriptor(ours);
    throw error;
  }
}

async function awaitDescriptor(socket: number, ended: () => boolean): Promise<number | undefined> {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const over = ended() || performance.now() > deadline;
    const received = receiveDescriptor(socket);
    if (typeof received === 'number') return received;
    if (over) return undefined;
    await later(LOOK);
  }
}
