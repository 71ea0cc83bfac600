// The listening socket that the program inherits as descriptor 3 (sd_listen_fds(3)).

import { isAbsolute } from 'node:path';
import { isListening, isUnixSocket } from '../../linux/socket.js';
import { unixSocketPath } from '../../linux/unix-socket.js';

/** The first inherited descriptor. */
export const INHERITED = 3;

/** An inherited socket. */
export interface InheritedListener {
  readonly fd: number;
  /** Its absolute path; undefined where it cannot be known, as with an abstract name. */
  readonly path: string | undefined;
}

/** A path below /proc/self leads elsewhere in this process than in the one that bound the socket. */
function usablePath(path: string): string | undefined {
  return isAbsolute(path) && !path.startsWith('/proc/') ? path : undefined;
}

/**
 * The inherited listening Unix socket. The variables for it are removed from `environment`: they are not for children.
 * @throws Error in one line if there is none
 */
export function inheritedListener(environment: NodeJS.ProcessEnv = process.env): InheritedListener {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  const isForUs = pid === undefined || pid === String(process.pid);
  if (count === undefined || !isForUs)
    throw new Error('there is no listening socket: start this program by socket activation (LISTEN_FDS=1)');
  if (count !== '1') throw new Error(`LISTEN_FDS must be 1, not ${JSON.stringify(count)}`);
  if (!isUnixSocket(INHERITED) || !isListening(INHERITED))
    throw new Error(`descriptor ${INHERITED} is not a listening Unix socket`);
  return { fd: INHERITED, path: usablePath(unixSocketPath(INHERITED)) };
}
