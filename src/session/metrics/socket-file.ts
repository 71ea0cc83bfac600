// The Unix socket of --metrics, which only its owner may use.

import { closeSync, lstatSync, rmSync, type Stats } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ECONNREFUSED } from '../../constants/errno.js';
import { SystemError } from '../../linux/errno.js';
import { pathBytes } from '../../linux/path-text.js';
import { AF_UNIX, closeDescriptor, openSocket, SOCK_STREAM } from '../../linux/socket.js';
import { connectUnixSocket, listenUnix } from '../../linux/unix-socket.js';

/** The permissions that a new socket does not get. */
const OTHERS = 0o177;

const NO_SOCKET = 'the file exists and is not a socket; name another path';

/** A socket that listens. */
export interface SocketFile {
  readonly descriptor: number;
  /** Removes it, if it is still the same. Never throws. */
  remove(): void;
}

function lookAt(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Finds out before the start whether a socket can be made, and changes nothing. @throws Error */
export async function checkSocketFile(path: string): Promise<void> {
  const found = lookAt(path);
  if (found !== undefined && !found.isSocket()) throw new Error(NO_SOCKET);
  await access(pathBytes(dirname(path)), constants.W_OK | constants.X_OK);
}

/** Removes a socket at which nobody listens. @throws Error when there is something else */
async function removeStale(path: string): Promise<void> {
  const found = lookAt(path);
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error(NO_SOCKET);
  try {
    closeSync(await connectUnixSocket(path));
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== ECONNREFUSED) throw error;
    rmSync(path, { force: true });
    return;
  }
  throw new Error('another process listens there; name another path');
}

/** Makes a socket with mode 0600 and listens. Replaces one that a killed process has left. @throws Error */
export async function listenAtSocketFile(path: string): Promise<SocketFile> {
  await removeStale(path);
  const descriptor = openSocket(AF_UNIX, SOCK_STREAM);
  const before = process.umask(OTHERS);
  try {
    listenUnix(descriptor, path);
  } catch (error) {
    closeDescriptor(descriptor);
    throw error;
  } finally {
    process.umask(before);
  }
  const own = lookAt(path);
  return {
    descriptor,
    remove: () => {
      try {
        const found = lookAt(path);
        if (found !== undefined && found.ino === own?.ino && found.dev === own.dev) rmSync(path);
      } catch {
        // The directory is gone, or not ours any more.
      }
    },
  };
}
