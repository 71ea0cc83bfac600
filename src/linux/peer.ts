// The processes at the other end of a socket, and whether they have ended.
//
// The main thread opens pidfds when a connection is made; the worker polls them. Only proof by the kernel counts: a
// process that cannot be identified for certain is not watched. Never blocks.

import { EINTR, ENOPROTOOPT, ESRCH } from '../constants/errno.js';
import { POLLIN } from '../constants/poll-events.js';
import { addressOf, errno, libc } from './libc.js';
import { openPidfd } from './pidfd.js';
import { eventsOf } from './poll.js';
import { SOL_SOCKET } from './socket.js';
import { findHolders, isProxy, programOf, type TcpEnds, type UnixEnds } from './socket-holders.js';

const SO_PEERCRED = 17;
/** Linux 6.5. */
const SO_PEERPIDFD = 77;

/** The processes that serve a connection, and their pidfds. The owner closes them. */
export interface PeerHandle {
  readonly pids: readonly number[];
  readonly descriptors: readonly number[];
}

/**
 * Opens the processes at the other end of a connection after the server's first bytes, with the process that listens,
 * whose handle it takes over. Undefined if they are unknown: on another machine, or another user's.
 * @throws RangeError if no process has it open any more
 */
export function openHolders(where: UnixEnds | TcpEnds, listener?: PeerHandle): PeerHandle | undefined {
  const known = listener ?? { pids: [], descriptors: [] };
  const found = findHolders(where, listener?.pids[0]);
  const others = found.filter((pid) => !known.pids.includes(pid));
  const opened = others.map(openPidfd).filter((one) => one >= 0);
  const all = { pids: [...known.pids, ...others], descriptors: [...known.descriptors, ...opened] };
  if (found.length > 0 && opened.length === others.length) return all;
  closePeer(all);
  return undefined;
}

/**
 * Opens processes by their numbers. A number that has another process by now is watched instead, which proves nothing
 * wrong; those that have ended are left out.
 * @throws RangeError if all have ended
 */
export function openProcesses(pids: readonly number[]): PeerHandle | undefined {
  const opened: { readonly pid: number; readonly descriptor: number }[] = [];
  for (const pid of pids) {
    const descriptor = openPidfd(pid);
    if (descriptor >= 0) opened.push({ pid, descriptor });
    else if (errno() !== ESRCH) {
      closePeer({ pids: [], descriptors: opened.map((one) => one.descriptor) });
      return undefined;
    }
  }
  if (opened.length === 0) throw new RangeError('the server has ended');
  return { pids: opened.map(({ pid }) => pid), descriptors: opened.map(({ descriptor }) => descriptor) };
}

export function closePeer({ descriptors }: PeerHandle): void {
  for (const descriptor of descriptors) libc.close(descriptor);
}

/** Whether all the processes have ended. */
export function peerHasEnded({ descriptors }: PeerHandle): boolean {
  return descriptors.every(hasEnded);
}

/** Returns the processes if their end proves something, and undefined if one of them is only a proxy. */
export function withoutProxies(handle: PeerHandle): PeerHandle | undefined {
  // systemd has sockets open for others and never ends.
  if (!handle.pids.some((pid) => pid === 1 || isProxy(programOf(pid)))) return handle;
  closePeer(handle);
  return undefined;
}

/**
 * Opens the process that listens at the other end of a newly connected Unix socket. Undefined if it is unknown, has
 * ended (it went into the background), is in another PID namespace, or is this process itself, which made the listening
 * socket for its child.
 */
export function openListener(socket: number): PeerHandle | undefined {
  // struct ucred: pid, uid, gid.
  const credentials = new Int32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const result = libc.getsockopt(socket, SOL_SOCKET, SO_PEERCRED, addressOf(credentials), addressOf(length));
  const [pid] = credentials;
  if (result < 0 || pid <= 1 || pid === process.pid) return undefined;
  const descriptor = openListenerPidfd(socket, pid);
  if (descriptor < 0) return undefined;
  if (!hasEnded(descriptor)) return { pids: [pid], descriptors: [descriptor] };
  libc.close(descriptor);
  return undefined;
}

/** Opens a pidfd; before Linux 6.5 by pid, which may belong to another process by now. */
function openListenerPidfd(socket: number, pid: number): number {
  const found = new Int32Array([-1]);
  const length = new Uint32Array([found.byteLength]);
  for (;;) {
    if (libc.getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, addressOf(found), addressOf(length)) === 0)
      return found[0];
    const error = errno();
    if (error === EINTR) continue;
    return error === ENOPROTOOPT ? openPidfd(pid) : -1;
  }
}

/** Whether all threads of a process have ended. */
function hasEnded(descriptor: number): boolean {
  return (eventsOf(descriptor, POLLIN) & POLLIN) !== 0;
}

/** Watched processes. Connections and lost changes share them; the last `release` closes the pidfds. */
export class PeerProcess {
  readonly #handle: PeerHandle;
  readonly #onRelease: () => void;
  #references = 1;
  #ended = false;

  constructor(handle: PeerHandle, onRelease: () => void) {
    this.#handle = handle;
    this.#onRelease = onRelease;
  }

  get ended(): boolean {
    this.#ended ||= peerHasEnded(this.#handle);
    return this.#ended;
  }

  /** Whether one of the processes has ended. */
  get someEnded(): boolean {
    return this.#handle.descriptors.some(hasEnded);
  }

  /** Adds a reference. @throws RangeError after the last release */
  share(): PeerProcess {
    if (this.#references === 0) throw new RangeError('a released process handle cannot be shared');
    this.#references++;
    return this;
  }

  /** @throws RangeError after the last release: the pidfds may belong to others by now */
  release(): void {
    if (this.#references === 0) throw new RangeError('a process handle is released once for each reference');
    if (--this.#references > 0) return;
    closePeer(this.#handle);
    this.#onRelease();
  }
}

/** All watched processes, one set of pidfds each. */
export class PeerProcesses {
  readonly #known = new Map<string, PeerProcess>();

  /** Watches processes and takes over their pidfds. The caller releases the result. */
  adopt(handle: PeerHandle): PeerProcess {
    const key = handle.pids.join(' ');
    const known = this.#known.get(key);
    // The pid of an ended process may have been reused.
    if (known !== undefined && !known.someEnded) {
      closePeer(handle);
      return known.share();
    }
    const peer = new PeerProcess(handle, () => {
      if (this.#known.get(key) === peer) this.#known.delete(key);
    });
    this.#known.set(key, peer);
    return peer;
  }
}
