import { once } from 'node:events';
import { readdir, readFile, stat } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { CuttingProxy } from '../../support/run/cutting-proxy.js';
import { type MountpointForm, type MountRequest, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit');

const SIZE = 1024 * 1024;
const TEXT = Buffer.from('written through this form');

type Server = Pick<MountRequest, 'server' | 'program'>;

/** A program that passes descriptor 3, connected to a server, to nbdfuse. */
const withDescriptor = (socket: Socket): Server => ({
  server: ['--fd', '3'],
  program: { stdio: ['ignore', 'pipe', 'pipe', socket] },
});

/** The modes of naming the server. */
const MODES: Readonly<Record<string, (scope: Scope) => Promise<Server>>> = {
  URI: async (scope) => ({ server: [(await startNbdkit(scope, 'memory', '1M')).uri()] }),
  '--uri': async (scope) => ({ server: ['--uri', (await startNbdkit(scope, 'memory', '1M')).uri()] }),
  '[ CMD ]': async () => ({ server: ['[', 'nbdkit', 'memory', '1M', ']'] }),
  '--command': async () => ({ server: ['--command', 'nbdkit', '-s', 'memory', '1M'] }),
  '--socket-activation': async () => ({ server: ['--socket-activation', 'nbdkit', 'memory', '1M'] }),
  '--unix': async (scope) => ({ server: ['--unix', (await startNbdkit(scope, 'memory', '1M')).socket] }),
  '--tcp': async (scope) => {
    const { socket } = await startNbdkit(scope, 'memory', '1M');
    const { port } = await CuttingProxy.open(scope, 0, { path: socket });
    return { server: ['--tcp', '127.0.0.1', String(port)] };
  },
  '--fd': async (scope) => {
    const { socket } = await startNbdkit(scope, 'memory', '1M');
    const connection = createConnection(socket);
    scope.add(() => connection.destroy());
    await once(connection, 'connect');
    connection.pause();
    return withDescriptor(connection);
  },
};

const FORMS: readonly MountpointForm[] = ['directory', 'file name', 'existing file'];

/** libfuse 2 mounts over directories only. */
const CASES = withBackends(
  Object.keys(MODES).flatMap((mode) => FORMS.map((form) => [mode, form] as const)),
).filter(([, form, backend]) => form !== 'existing file' || !/native/.test(backend));

it.each(CASES)(
  'mountpoint forms: serves a disk named by %s on a mountpoint of the form %s, by %s',
  async (mode, form, _, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { ...(await MODES[mode](scope)), form, options });
    expect((await stat(disk.file)).size).toBe(SIZE);
    if (form === 'directory') expect(await readdir(disk.mountpoint)).toEqual(['nbd']);
    if (form === 'file name') expect(await readdir(disk.mountpoint)).toEqual(['disk.raw']);
    await writeAt(disk.file, TEXT, 12_345);
    expect((await readAt(disk.file, 12_345, TEXT.length)).equals(TEXT)).toBe(true);
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');
    if (form === 'existing file') expect((await readFile(disk.file)).length).toBe(0);
    else expect(await readdir(disk.mountpoint)).toEqual([]);
  },
);
