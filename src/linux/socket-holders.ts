// Finds the local processes that have the other end of a connection open: those that serve it.
//
// Used for each new connection (see openHolders). Finds nobody without the permission to inspect the process. Takes some
// milliseconds.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { inodeOfSocket, peerInode } from './socket-diagnosis.js';

/** Inodes of the sockets bound to a path, listening and connected ones. */
function inodesOfPath(path: string): Set<string> {
  const inodes = new Set<string>();
  // The kernel writes each NUL of an abstract name as @.
  const shown = path.replaceAll('\0', '@');
  // Num RefCount Protocol Flags Type St Inode Path
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    if (fields.slice(7).join(' ') === shown) inodes.add(fields[6]);
  }
  return inodes;
}

/** The IPv4 address in an IPv6 address: the two ends of a connection may name it in either form. */
const MAPPED = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/** An address and a port as in /proc/net/tcp, and at the end of those in tcp6: groups of four bytes in host byte order. */
export function procAddress(address: string, port: number): string {
  const plain = address.replace(MAPPED, '');
  const bytes = plain.includes(':') ? bytesOfIpv6(plain) : plain.split('.').map(Number);
  const groups: string[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    const group = bytes.slice(at, at + 4);
    if (endianness() === 'LE') group.reverse();
    groups.push(group.map((byte) => byte.toString(16).padStart(2, '0')).join(''));
  }
  return `${groups.join('')}:${port.toString(16).padStart(4, '0')}`.toUpperCase();
}

function bytesOfIpv6(address: string): number[] {
  const [head, tail] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const missing = tail === undefined ? 0 : 8 - head.length - tail.length;
  const words = [...head, ...Array.from({ length: missing }, () => '0'), ...(tail ?? [])];
  return words.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]);
}

/** Both ends of a TCP connection. */
export interface TcpEnds {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
}

/** Inode of the socket at the other end of a TCP connection, if it is on this machine. */
function inodesOfTcp({ localAddress, localPort, remoteAddress, remotePort }: TcpEnds): Set<string> {
  const [theirs, ours] = [procAddress(remoteAddress, remotePort), procAddress(localAddress, localPort)];
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
    for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(theirs) && fields[2]?.endsWith(ours) && fields[9] !== '0')
        inodes.add(fields[9]);
    }
  }
  return inodes;
}

/** The processes found, and the parents of those that may not be inspected. */
interface Holders {
  readonly pids: readonly number[];
  readonly hiddenChildrenOf: ReadonlySet<number>;
}

/** Whether a process has one of these sockets open. @throws Error if it has ended, or may not be inspected */
function holdsOne(name: string, inodes: ReadonlySet<string>): boolean {
  const directory = `/proc/${name}/fd`;
  return readdirSync(directory).some((fd) => {
    const inode = inodeOfSocket(linkOf(`${directory}/${fd}`));
    return inode !== undefined && inodes.has(inode);
  });
}

/** Those of some processes that have one of these sockets open. */
function holdersAmong(names: readonly string[], inodes: ReadonlySet<string>): Holders {
  const pids: number[] = [];
  const hiddenChildrenOf = new Set<number>();
  for (const name of names) {
    try {
      if (holdsOne(name, inodes)) pids.push(Number(name));
    } catch (error) {
      if (!isGone(error)) hiddenChildrenOf.add(parentOf(name));
    }
  }
  return { pids, hiddenChildrenOf };
}

/** All processes, without this one. */
function allProcesses(): readonly string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
}

/** A process and its descendants. */
function familyOf(pid: string): string[] {
  const family = [pid];
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim();
      for (const child of children === '' ? [] : children.split(' ')) family.push(...familyOf(child));
    }
  } catch {
    // It has ended, or the kernel has no lists of children.
  }
  return family;
}

/** The parent of a process; 0 if it is unknown. */
function parentOf(name: string): number {
  try {
    const text = readFileSync(`/proc/${name}/stat`, 'utf8');
    // state ppid. The name in parentheses may contain any character.
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
}

/** Whether an error of /proc says that the process or its file is no longer there. */
function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

/**
 * Where a link leads; empty if the file was closed meanwhile. With DAC_READ_SEARCH, and without SYS_PTRACE, root may
 * list the files of a process of another user, and read none of the links.
 * @throws Error if the process may not be inspected
 */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (isGone(error)) return '';
    throw error;
  }
}

/** A connected Unix socket of this process, and the path at its other end. */
export interface UnixEnds {
  readonly descriptor: number | undefined;
  readonly path: string;
}

/** The socket at the other end; if the kernel does not know it, all sockets with its path. */
function inodesOfUnix({ descriptor, path }: UnixEnds): Set<string> {
  const inode = descriptor === undefined ? undefined : peerInode(descriptor);
  return inode === undefined ? inodesOfPath(path) : new Set([inode]);
}

/** A look at the listener and its children is enough if one of them has the socket; that saves a walk over /proc. */
function holdersOf(inodes: ReadonlySet<string>, listener: number | undefined): Holders {
  const family = listener === undefined ? undefined : holdersAmong(familyOf(`${listener}`), inodes);
  return family !== undefined && family.pids.length > 0 ? family : holdersAmong(allProcesses(), inodes);
}

/**
 * The processes that have the other end of a connection open; none if one of them may be hidden, as that of another
 * user. A process gets a socket from its parent, so a hidden child of a server counts as one that has it.
 * @param listener the process that listens, if it is known
 * @throws RangeError if the other end of a local TCP connection is gone
 */
export function findHolders(where: UnixEnds | TcpEnds, listener?: number): readonly number[] {
  const isUnix = 'path' in where;
  const inodes = isUnix ? inodesOfUnix(where) : inodesOfTcp(where);
  if (inodes.size === 0 && !isUnix) throw new RangeError('the server has ended');
  const { pids, hiddenChildrenOf } = holdersOf(inodes, listener);
  const hasHidden = [...pids, listener].some((pid) => pid !== undefined && hiddenChildrenOf.has(pid));
  return hasHidden ? [] : pids;
}

/** Proxies and tunnels: their end says nothing about the server behind them. */
const PROXIES = new Set(
  [
    'haproxy nc ncat netcat nginx socat ssh sshd stunnel stunnel4 systemd-socket- envoy traefik autossh rinetd',
    'docker-proxy rootlessport rootlesskit slirp4netns passt passt.avx2 pasta pasta.avx2 gvproxy kubectl cloudflared',
  ].flatMap((names) => names.split(' ')),
);

/** Whether a process or a command is a proxy. @param name as in /proc/PID/comm, or a path */
export function isProxy(name: string): boolean {
  return PROXIES.has((name.split('/').at(-1) ?? '').slice(0, 15).trim());
}

/** The program name of a process, as truncated by the kernel; empty without one. */
export function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}
