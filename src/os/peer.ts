// The process at the other end of a Unix socket, and whether it has ended.
//
// Used by the worker's connections. Only what the kernel proves counts: a process that cannot be told for sure is
// not watched. Nothing blocks.

import { EINTR, ENOPROTOOPT } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** Linux 6.5. */
const SO_PEERPIDFD = 77;
/** The same number for every architecture. */
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;

/** A watched process. Several sockets may share it; the last `release` closes its descriptor. */
export class PeerProcess {
  readonly pid: number;
  readonly #descriptor: number;
  readonly #onRelease: () => void;
  readonly #entry = new Int16Array(4);
  #references = 1;
  #ended = false;

  constructor(pid: number, descriptor: number, onRelease: () => void) {
    this.pid = pid;
    this.#descriptor = descriptor;
    this.#onRelease = onRelease;
  }

  /** Whether all of its threads have ended. What it had asked the kernel to do is over then, too. */
  get ended(): boolean {
    if (this.#ended || this.#references === 0) return this.#ended;
    const entry = this.#entry;
    new Int32Array(entry.buffer)[0] = this.#descriptor;
    entry[2] = POLLIN;
    entry[3] = 0;
    this.#ended = libc.poll(addressOf(entry), 1, 0) > 0 && (entry[3] & POLLIN) !== 0;
    return this.#ended;
  }

  share(): PeerProcess {
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

  /**
   * The process that listened at the other end of a connected Unix socket. Undefined where that is not known or
   * proves nothing: another kind of socket, a process of another PID namespace, one that has ended already (a server
   * that went into the background after it began to listen), this process itself (which made a listening socket for
   * its child).
   */
  of(socket: number): PeerProcess | undefined {
    const pid = peerPid(socket);
    if (pid <= 0 || pid === process.pid) return undefined;
    const known = this.#known.get(pid);
    if (known !== undefined && !known.ended) return known.share();
    const descriptor = openPidfd(socket, pid);
    if (descriptor < 0) return undefined;
    const peer = new PeerProcess(pid, descriptor, () => {
      if (this.#known.get(pid) === peer) this.#known.delete(pid);
    });
    if (peer.ended) {
      peer.release();
      return undefined;
    }
    this.#known.set(pid, peer);
    return peer;
  }
}

function peerPid(socket: number): number {
  // struct ucred: pid, uid, gid.
  const credentials = new Int32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const result = libc.getsockopt(socket, SOL_SOCKET, SO_PEERCRED, addressOf(credentials), addressOf(length));
  return result < 0 ? -1 : credentials[0];
}

/** A descriptor of the process; before Linux 6.5 by its number, which another process may have by now. */
function openPidfd(socket: number, pid: number): number {
  const descriptor = new Int32Array([-1]);
  const length = new Uint32Array([descriptor.byteLength]);
  for (;;) {
    const result = libc.getsockopt(
      socket,
      SOL_SOCKET,
      SO_PEERPIDFD,
      addressOf(descriptor),
      addressOf(length),
    );
    if (result === 0) return descriptor[0];
    const error = errno();
    if (error === EINTR) continue;
    return error === ENOPROTOOPT ? libc.syscall(SYS_PIDFD_OPEN, pid, 0) : -1;
  }
}
