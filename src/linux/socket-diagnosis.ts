// The socket at the other end of a Unix socket, by sock_diag(7).
//
// Never blocks: the kernel replies within send(2). Without the module unix_diag the other end is unknown.

import { readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { addressOf, libc } from './libc.js';
import { AF_UNIX, closeDescriptor, MSG_DONTWAIT, openSocket, SOCK_DGRAM } from './socket.js';

const AF_NETLINK = 16;
const NETLINK_SOCK_DIAG = 4;
const NLM_F_REQUEST = 1;
const SOCK_DIAG_BY_FAMILY = 20;
const UDIAG_SHOW_PEER = 4;
const UNIX_DIAG_PEER = 2;

/** Sizes in bytes of struct nlmsghdr, unix_diag_req and unix_diag_msg. */
const HEADER = 16;
const REQUEST = 24;
const MESSAGE = 16;

/** All states, and the cookie that fits every socket. */
const ANY = 0xffffffff;

/** Netlink uses the byte order of the machine. */
const HOST = endianness() === 'LE';

/** The inode number in the name of a socket, as /proc shows it; undefined for other files. */
export function inodeOfSocket(link: string): string | undefined {
  return /^socket:\[(\d+)\]$/.exec(link)?.[1];
}

/** The inode number of the socket at the other end of a connected Unix socket; undefined if it is unknown. */
export function peerInode(descriptor: number): string | undefined {
  try {
    return askPeer(descriptor);
  } catch {
    // A sandbox may forbid netlink sockets.
    return undefined;
  }
}

/** @throws Error without a netlink socket */
function askPeer(descriptor: number): string | undefined {
  const inode = inodeOfSocket(readlinkSync(`/proc/self/fd/${descriptor}`));
  if (inode === undefined) return undefined;
  const request = new DataView(new ArrayBuffer(HEADER + REQUEST));
  request.setUint32(0, request.byteLength, HOST);
  request.setUint16(4, SOCK_DIAG_BY_FAMILY, HOST);
  request.setUint16(6, NLM_F_REQUEST, HOST);
  request.setUint8(HEADER, AF_UNIX);
  request.setUint32(HEADER + 4, ANY, HOST);
  request.setUint32(HEADER + 8, Number(inode), HOST);
  request.setUint32(HEADER + 12, UDIAG_SHOW_PEER, HOST);
  request.setUint32(HEADER + 16, ANY, HOST);
  request.setUint32(HEADER + 20, ANY, HOST);
  const reply = new DataView(new ArrayBuffer(4096));
  const socket = openSocket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG);
  libc.send(socket, addressOf(request), request.byteLength, MSG_DONTWAIT);
  const length = libc.recv(socket, addressOf(reply), reply.byteLength, MSG_DONTWAIT);
  closeDescriptor(socket);
  return peerIn(reply, length);
}

/** Finds the peer among the attributes of a reply, each with its length and its type. */
function peerIn(reply: DataView, length: number): string | undefined {
  if (length < HEADER + MESSAGE || reply.getUint16(4, HOST) !== SOCK_DIAG_BY_FAMILY) return undefined;
  for (let at = HEADER + MESSAGE; at + 8 <= length; ) {
    const size = reply.getUint16(at, HOST);
    if (reply.getUint16(at + 2, HOST) === UNIX_DIAG_PEER) return String(reply.getUint32(at + 4, HOST));
    if (size < 4) return undefined;
    at += (size + 3) & ~3;
  }
  return undefined;
}
