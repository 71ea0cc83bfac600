// Which processes of this machine hold the other end of a connection: those that serve it.
//
// Looked up when a connection has been made, where the kernel does not tell by itself (see openPeer). Whoever may not
// look into a process does not find it: then nobody is found. Costs some milliseconds.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';

/** Numbers of the sockets that are bound to a path, listening and connected ones. */
function inodesOfPath(path: string): Set<string> {
  const inodes = new Set<string>();
  // Num RefCount Protocol Flags Type St Inode Path
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    if (fields.slice(7).join(' ') === path) inodes.add(fields[6]);
  }
  return inodes;
}

/** An address and a port as /proc/net/tcp and tcp6 write them: groups of four bytes in the machine's order. */
export function procAddress(address: string, port: number): string {
  const bytes = address.includes(':') ? bytesOfIpv6(address) : address.split('.').map(Number);
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

/** Where a TCP connection begins and ends. */
export interface TcpEnds {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
}

/** The number of the socket at the other end of a TCP connection, if that is on this machine. */
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

/** The processes that have one of these sockets open. */
function holdersOf(inodes: ReadonlySet<string>): number[] {
  const holders: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const folder = `/proc/${name}/fd`;
      const holds = readdirSync(folder).some((fd) => {
        const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`${folder}/${fd}`))?.[1];
        return inode !== undefined && inodes.has(inode);
      });
      if (holds) holders.push(Number(name));
    } catch {
      // It has ended meanwhile, or is somebody else's.
    }
  }
  return holders;
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/**
 * The processes behind a Unix socket of that path, or a TCP connection; none where that cannot be found out.
 * @throws RangeError when the other end of a TCP connection on this machine is not there any more
 */
export function findHolders(where: string | TcpEnds): number[] {
  const inodes = typeof where === 'string' ? inodesOfPath(where) : inodesOfTcp(where);
  if (inodes.size > 0) return holdersOf(inodes).filter((pid) => pid !== process.pid);
  if (typeof where === 'string') return [];
  throw new RangeError('the server has ended');
}

/** Programs that pass on what they get: their end says nothing about who does the work. */
const RELAYS = new Set(
  'haproxy nc ncat netcat nginx socat ssh sshd stunnel stunnel4 systemd-socket- envoy traefik'.split(' '),
);

/** Whether a process, or a command, is one that passes on what it gets. @param name as in /proc/PID/comm, or a path */
export function isRelay(name: string): boolean {
  return RELAYS.has((name.split('/').at(-1) ?? '').slice(0, 15).trim());
}

/** The name of a process's program, as the kernel cuts it; empty for none. */
export function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}
