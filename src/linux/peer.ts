// The processes at the other end of a socket, and whether they have ended.
//
// The main thread opens a descriptor of it when a connection is made; the worker watches it. Only what the kernel
// proves counts: a process that cannot be told for sure is not watched. Nothing blocks.

import { EINTR, ENOPROTOOPT } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { findHolders, isRelay, programOf, type TcpEnds } from './socket-holders.js';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** Linux 6.5. */
const SO_PEERPIDFD = 77;
/** The same number for every architecture. */
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;

/** The processes that serve a connection, and descriptors by which their ends can be seen; whoever has it closes it. */
export interface PeerHandle {
  readonly pids: readonly number[];
  readonly descriptors: readonly number[];
}

/**
 * The processes that hold the other end of a connection whose server has spoken. Undefined where they are not known: on
 * another machine, or somebody else's. @throws RangeError when nobody holds it any more
 * @param where the path of a Unix socket, or where a TCP connection begins and ends
 */
export function openHolders(where: string | TcpEnds): PeerHandle | undefined {
  const pids = findHolders(where);
  const descriptors = pids.map((pid) => libc.syscall(SYS_PIDFD_OPEN, pid, 0)).filter((one) => one >= 0);
  if (pids.length > 0 && descriptors.length === pids.length) return { pids, descriptors };
  closePeer({ pids, descriptors });
  return undefined;
}

export function closePeer({ descriptors }: PeerHandle): void {
  for (const descriptor of descriptors) libc.close(descriptor);
}

/** Whether all of them have ended. */
export function peerHasEnded({ descriptors }: PeerHandle): boolean {
  return descriptors.every(hasEnded);
}

/** The same processes where their end proves something: not of those that only pass on what they get. */
export function withoutRelays(handle: PeerHandle): PeerHandle | undefined {
  // systemd holds sockets for others, and never ends.
  if (!handle.pids.some((pid) => pid === 1 || isRelay(programOf(pid)))) return handle;
  closePeer(handle);
  return undefined;
}

/**
 * The process that listened at the other end of a Unix socket that has just been connected. Undefined where that is not
 * known or has ended (it went into the background), in another PID namespace, and for this process itself, which made
 * a listening socket for its child.
 */
export function openListener(socket: number): PeerHandle | undefined {
  // struct ucred: pid, uid, gid.
  const credentials = new Int32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const result = libc.getsockopt(socket, SOL_SOCKET, SO_PEERCRED, addressOf(credentials), addressOf(length));
  const [pid] = credentials;
  if (result < 0 || pid <= 1 || pid === process.pid) return undefined;
  const descriptor = openPidfd(socket, pid);
  if (descriptor < 0) return undefined;
  if (!hasEnded(descriptor)) return { pids: [pid], descriptors: [descriptor] };
  libc.close(descriptor);
  return undefined;
}

/** A descriptor of the process; before Linux 6.5 by its number, which another process may have by now. */
function openPidfd(socket: number, pid: number): number {
  const found = new Int32Array([-1]);
  const length = new Uint32Array([found.byteLength]);
  for (;;) {
    if (libc.getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, addressOf(found), addressOf(length)) === 0)
      return found[0];
    const error = errno();
    if (error === EINTR) continue;
    return error === ENOPROTOOPT ? libc.syscall(SYS_PIDFD_OPEN, pid, 0) : -1;
  }
}

/** Whether all threads of a process have ended. */
function hasEnded(descriptor: number): boolean {
  const entry = new Int16Array(4);
  new Int32Array(entry.buffer)[0] = descriptor;
  entry[2] = POLLIN;
  return libc.poll(addressOf(entry), 1, 0) > 0 && (entry[3] & POLLIN) !== 0;
}

/** Watched processes. Connections and lost changes share them; the last `release` closes the descriptors. */
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

  /** @throws RangeError when it was released by all */
  share(): PeerProcess {
    if (this.#references === 0) throw new RangeError('a released process handle cannot be shared');
    this.#references++;
    return this;
  }

  release(): void {
    if (--this.#references > 0) return;
    closePeer(this.#handle);
    this.#onRelease();
  }
}

/** The processes that are watched, one descriptor each. */
export class PeerProcesses {
  readonly #known = new Map<string, PeerProcess>();

  /** Watches processes, whose descriptors it owns from now on; the caller releases what is returned. */
  adopt(handle: PeerHandle): PeerProcess {
    const key = handle.pids.join(' ');
    const known = this.#known.get(key);
    // Who has ended may have left its number to another.
    if (known !== undefined && !known.ended) {
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
