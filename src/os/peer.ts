// The process at the other end of a Unix socket, and whether it has ended.
//
// The main thread opens a descriptor of it when a connection is made; the worker watches it. Only what the kernel
// proves counts: a process that cannot be told for sure is not watched. Nothing blocks.

import { EINTR, ENOPROTOOPT } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** Linux 6.5. */
const SO_PEERPIDFD = 77;
/** The same number for every architecture. */
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;

/** A process, and a descriptor by which its end can be seen; whoever has it closes it. */
export interface PeerHandle {
  readonly pid: number;
  readonly descriptor: number;
}

/**
 * The process that listened at the other end of a socket that has just been connected. Undefined where that is not
 * known or proves nothing: another kind of socket, a process of another PID namespace, one that has ended already (a
 * server that went into the background after it began to listen), this process itself (which made a listening socket
 * for its child).
 */
export function openPeer(socket: number): PeerHandle | undefined {
  // struct ucred: pid, uid, gid.
  const credentials = new Int32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const result = libc.getsockopt(socket, SOL_SOCKET, SO_PEERCRED, addressOf(credentials), addressOf(length));
  const [pid] = credentials;
  if (result < 0 || pid <= 0 || pid === process.pid) return undefined;
  const descriptor = openPidfd(socket, pid);
  if (descriptor < 0) return undefined;
  if (!hasEnded(descriptor)) return { pid, descriptor };
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

/** Whether all threads of a process have ended: what it had asked the kernel to do is over then, too. */
export function hasEnded(descriptor: number): boolean {
  const entry = new Int16Array(4);
  new Int32Array(entry.buffer)[0] = descriptor;
  entry[2] = POLLIN;
  return libc.poll(addressOf(entry), 1, 0) > 0 && (entry[3] & POLLIN) !== 0;
}

/** A watched process. Connections and lost changes share it; the last `release` closes its descriptor. */
export class PeerProcess {
  readonly #descriptor: number;
  readonly #onRelease: () => void;
  #references = 1;
  #ended = false;

  constructor(descriptor: number, onRelease: () => void) {
    this.#descriptor = descriptor;
    this.#onRelease = onRelease;
  }

  get ended(): boolean {
    this.#ended ||= hasEnded(this.#descriptor);
    return this.#ended;
  }

  /** @throws RangeError when it was released by all */
  share(): PeerProcess {
    if (this.#references === 0)
      throw new RangeError('a process that nobody watches any more cannot be shared');
    this.#references++;
    return this;
  }

  release(): void {
    if (--this.#references > 0) return;
    libc.close(this.#descriptor);
    this.#onRelease();
  }
}

/** The processes that are watched, one descriptor each. */
export class PeerProcesses {
  readonly #known = new Map<number, PeerProcess>();

  /** Watches a process, whose descriptor it owns from now on; the caller releases what is returned. */
  adopt({ pid, descriptor }: PeerHandle): PeerProcess {
    const known = this.#known.get(pid);
    // One that has ended may have left its number to another.
    if (known !== undefined && !known.ended) {
      libc.close(descriptor);
      return known.share();
    }
    const peer = new PeerProcess(descriptor, () => {
      if (this.#known.get(pid) === peer) this.#known.delete(pid);
    });
    this.#known.set(pid, peer);
    return peer;
  }
}
