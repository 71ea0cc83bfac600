// The processes that serve a connection, and whether they have ended.

import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { libc } from '../../../src/linux/libc.js';
import {
  closePeer,
  type PeerHandle,
  PeerProcesses,
  peerHasEnded,
  withoutProxies,
} from '../../../src/linux/peer.js';
import { isProxy, procAddress } from '../../../src/linux/socket-holders.js';
import { listenerOf, serversOf } from '../../../src/transport/stream-descriptor.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { freePort } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdServer } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'nbd-server', 'socat');

const SYS_PIDFD_OPEN = 434;

/** Whether a process runs; a zombie does not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

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
    await expectEnd(kept(scope, serversOf(socket, path)), pid);
  });

  it('is the holder of the other end of a TCP connection on this machine', async () => {
    const scope = createScope();
    const port = await freePort();
    const pid = await background(scope, '-i', '127.0.0.1', '-p', String(port));
    const socket = await connected(scope, { host: '127.0.0.1', port });
    await expectEnd(kept(scope, serversOf(socket, undefined)), pid);
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

  it('is nbd-server and its child for the connection, which may outlive it', async () => {
    const scope = createScope();
    const image = scope.path('image');
    writeFileSync(image, Buffer.alloc(1_048_576));
    const { socket: path } = await startNbdServer(scope, image);
    const [socket, other] = [await connected(scope, { path }), await connected(scope, { path })];
    const handle = kept(scope, serversOf(socket, path, listenerOf(socket)));
    const ofOther = kept(scope, serversOf(other, path, listenerOf(other)));
    const [parent, child] = handle.pids;
    expect(handle.pids).toHaveLength(2);
    expect(ofOther.pids).toEqual([parent, expect.any(Number)]);
    expect(ofOther.pids[1]).not.toBe(child);
    process.kill(parent, 'SIGKILL');
    await until('the end of nbd-server', () => !isAlive(parent));
    expect(peerHasEnded(handle)).toBe(false);
    process.kill(child, 'SIGKILL');
    await until('the end to be seen', () => peerHasEnded(handle));
    expect(peerHasEnded(ofOther)).toBe(false);
    process.kill(ofOther.pids[1], 'SIGKILL');
  });

  it('is another one if the pid of one of its ended processes may have been reused', async () => {
    const scope = createScope();
    const programs = [new Program(scope, 'sleep', ['1000']), new Program(scope, 'sleep', ['1000'])];
    const pids = programs.map(({ pid }) => pid);
    const open = (): PeerHandle => ({
      pids,
      descriptors: pids.map((pid) => libc.syscall(SYS_PIDFD_OPEN, pid, 0)),
    });
    const peers = new PeerProcesses();
    const first = peers.adopt(open());
    expect(peers.adopt(open())).toBe(first);
    const late = open();
    await programs[1].kill('SIGKILL');
    const other = peers.adopt(late);
    expect(other).not.toBe(first);
    for (const peer of [first, first, other]) peer.release();
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
    ['::ffff:127.0.0.1', 10_809, '0100007F:2A39'],
    ['::1', 10_809, '00000000000000000000000001000000:2A39'],
    ['fe80::1', 1, '000080FE000000000000000001000000:0001'],
  ])('contain %s port %i as %s', (address, port, expected) => {
    expect(procAddress(address, port)).toBe(expected);
  });

  it('a program name shows whether it is a proxy', () => {
    expect(
      [
        'socat',
        '/usr/bin/ssh',
        'stunnel4',
        'docker-proxy',
        'rootlessport',
        'slirp4netns',
        'passt.avx2',
        'kubectl',
      ].every(isProxy),
    ).toBe(true);
    expect(['nbdkit', 'qemu-nbd', '', 'ssh-agent'].some(isProxy)).toBe(false);
  });
});
