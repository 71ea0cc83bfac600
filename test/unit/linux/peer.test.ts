// The processes that serve a connection, and whether they have ended.

import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  closePeer,
  type PeerHandle,
  PeerProcesses,
  peerHasEnded,
  withoutProxies,
} from '../../../src/linux/peer.js';
import { isProxy, procAddress } from '../../../src/linux/socket-holders.js';
import { holdersOf, listenerOf } from '../../../src/transport/stream-descriptor.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { freePort } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'socat');

/** Connects, and waits for the first bytes of the server. */
async function connected(scope: Scope, where: NetConnectOpts): Promise<Socket> {
  const socket = connect(where);
  scope.add(() => void socket.destroy());
  await once(socket, 'data');
  return socket;
}

function kept(scope: Scope, handle: PeerHandle | undefined): PeerHandle {
  if (handle === undefined) throw new Error('no process was found');
  scope.add(() => closePeer(handle));
  return handle;
}

/** The number of a server that goes into the background. */
async function background(scope: Scope, ...words: readonly string[]): Promise<number> {
  const pidfile = scope.path('pid');
  const launcher = new Program(scope, 'nbdkit', ['-P', pidfile, ...words, 'memory', '1M']);
  await launcher.ended;
  await until('the server', () => existsSync(pidfile) && readFileSync(pidfile, 'utf8') !== '');
  const pid = Number(readFileSync(pidfile, 'utf8'));
  scope.add(() => {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
  });
  return pid;
}

async function expectEnd(handle: PeerHandle, pid: number): Promise<void> {
  expect(handle.pids).toEqual([pid]);
  expect(peerHasEnded(handle)).toBe(false);
  process.kill(pid, 'SIGKILL');
  await until('the end to be seen', () => peerHasEnded(handle));
}

describe('the peer of a connection', () => {
  it('is the process that listens on a Unix socket, while it lives', async () => {
    const scope = createScope();
    const path = scope.path('socket');
    const server = new Program(scope, 'nbdkit', ['-f', '-U', path, 'memory', '1M']);
    await until('the socket', () => existsSync(path));
    const socket = await connected(scope, { path });
    await expectEnd(kept(scope, listenerOf(socket)), server.pid);
  });

  it('is the holder of a Unix socket whose creator has gone into the background', async () => {
    const scope = createScope();
    const path = scope.path('socket');
    const pid = await background(scope, '-U', path);
    const socket = await connected(scope, { path });
    expect(listenerOf(socket)).toBe(undefined);
    await expectEnd(kept(scope, holdersOf(socket, path)), pid);
  });

  it('is the holder of the other end of a TCP connection on this machine', async () => {
    const scope = createScope();
    const port = await freePort();
    const pid = await background(scope, '-i', '127.0.0.1', '-p', String(port));
    const socket = await connected(scope, { host: '127.0.0.1', port });
    await expectEnd(kept(scope, holdersOf(socket, undefined)), pid);
  });

  it('is unknown behind a program that only forwards bytes', async () => {
    const scope = createScope();
    const [path, inner] = [scope.path('outer'), scope.path('inner')];
    await background(scope, '-U', inner);
    new Program(scope, 'socat', [`UNIX-LISTEN:${path},fork`, `UNIX-CONNECT:${inner}`]);
    await until('the socket', () => existsSync(path));
    const socket = await connected(scope, { path });
    const handle = listenerOf(socket);
    expect(handle).toBeDefined();
    if (handle !== undefined) expect(withoutProxies(handle)).toBe(undefined);
  });

  it('has one descriptor for all users, which the last one closes', () => {
    const peers = new PeerProcesses();
    const first = peers.adopt({ pids: [1, 2], descriptors: [] });
    expect(first.share()).toBe(first);
    first.release();
    first.release();
    expect(() => first.share()).toThrow(/a released process handle/);
  });
});

describe('socket tables of /proc', () => {
  it.each([
    ['127.0.0.1', 10_809, '0100007F:2A39'],
    ['192.168.1.20', 80, '1401A8C0:0050'],
    ['::1', 10_809, '00000000000000000000000001000000:2A39'],
    ['fe80::1', 1, '000080FE000000000000000001000000:0001'],
  ])('contain %s port %i as %s', (address, port, expected) => {
    expect(procAddress(address, port)).toBe(expected);
  });

  it('a program name shows whether it is a proxy', () => {
    expect(['socat', '/usr/bin/ssh', 'stunnel4'].every(isProxy)).toBe(true);
    expect(['nbdkit', 'qemu-nbd', '', 'ssh-agent'].some(isProxy)).toBe(false);
  });
});
