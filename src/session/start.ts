// From settings to a mounted, ready session.
//
// Called by process.ts. Connects before it mounts, so that most mistakes are told before anything is
// visible. Whatever fails on the way, what was begun is taken back.

import { join, resolve } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { spawnWorker } from '../bridge/spawn.js';
import { type Mountpoint, resolveMountpoint } from '../mount/mountpoint.js';
import { parseFuseOptions } from '../mount/options.js';
import { isReadOnly } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, BackendEvents, BackendRequest, PreparedBackend, ServedFile } from './backend.js';
import { systemClock } from './clock.js';
import { type Disk, openDisk } from './disk.js';
import { endpointOf } from './endpoint.js';
import { explainLoss, reconnectBy } from './lost-server.js';
import { writePidfile } from './pidfile.js';
import { Reconnector } from './reconnect.js';
import { ReconnectPolicy } from './reconnect-policy.js';
import { serverText } from './server-text.js';
import { type Ending, giveUp, type Served, Session } from './session.js';
import type { Report, Settings } from './settings.js';
import { Undo } from './undo.js';

const EIO = 5;

/** Who is told of what, while a session starts. */
interface Start {
  readonly settings: Settings;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly undo: Undo;
}

/**
 * Opens, connects, mounts, and says so in the pidfile.
 * @param signal calls the start off; it then rejects with the signal's reason
 * @param worker one that waits for its work, for the kernel backend
 * @throws MountError, TransportError, NbdServerError, NbdProtocolError: one line each
 */
export async function startSession(
  settings: Settings,
  report: Report,
  signal: AbortSignal,
  worker: Worker | undefined,
): Promise<Session> {
  const undo = new Undo();
  try {
    const start = { settings, report, signal, undo };
    const prepared = await prepareBackend(settings, worker);
    undo.add(() => prepared.discard());
    const options = parseFuseOptions([...settings.fuseOptions]);
    const endpoint = endpointOf(settings, report);
    const mountpoint = await resolveMountpoint(settings.mountpoint);
    if (mountpoint.notice !== undefined) report.line(mountpoint.notice, 'info');
    const disks = [await openDisk(endpoint, settings, report, undo, signal)];
    const files = disks.map(({ info }): ServedFile => {
      const readOnly = settings.readOnly || options.readOnly || isReadOnly(info);
      const server = serverText(settings.server);
      return { name: mountpoint.filename, info, readOnly, server, tls: endpoint.tls !== undefined };
    });
    const reconnectable = disks.some(({ server }) => reconnectBy(server, settings) !== undefined);
    return await serve(start, prepared, disks, { settings, mountpoint, options, files, reconnectable });
  } catch (error) {
    for (const failure of await undo.run()) report.error(failure);
    throw error;
  }
}

/** Mounts, and returns when the files can be used. */
async function serve(
  start: Start,
  prepared: PreparedBackend,
  disks: readonly Disk[],
  request: Omit<BackendRequest, 'events'>,
): Promise<Session> {
  const { settings, report, signal, undo } = start;
  const { mountpoint } = request;
  const served: Served[] = [];
  let end: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => {
    end = resolve;
  });
  const events: BackendEvents = {
    lost: (file, connection, why, useful) => served[file]?.reconnector.lost(connection, why, useful),
    warning: (text) => report.line(text),
    unmounted: () => end({ kind: 'unmounted' }),
    crashed: (why) => end({ kind: 'crash', why }),
  };
  signal.throwIfAborted();
  const backend = await prepared.start({ ...request, events });
  try {
    disks.forEach((disk, file) => {
      const reconnector = createReconnector(start, disk, file, backend, fileLabel(mountpoint));
      served.push({ path: join(mountpoint.path, mountpoint.filename), reconnector });
      reconnector.attach(0, disk.first);
    });
    await backend.ready;
    signal.throwIfAborted();
    disks.forEach((disk, file) => {
      adoptFurther(disk, served[file].reconnector);
    });
    if (settings.pidfile !== undefined) {
      const pidfile = await writePidfile(settings.pidfile);
      undo.add(() => pidfile.remove());
    }
  } catch (error) {
    await giveUp(backend);
    throw error;
  }
  return new Session({ report, mountpoint, backend, served, ended, undo });
}

async function prepareBackend({ backend }: Settings, worker: Worker | undefined): Promise<PreparedBackend> {
  if (backend === 'fuse-native') return (await import('./fuse-native-backend.js')).prepareFuseNativeBackend();
  return (await import('./kernel-backend.js')).prepareKernelBackend(worker ?? spawnWorker());
}

/** The file as the user would type it. */
function fileLabel({ text, path, filename }: Mountpoint): string {
  return filename !== '' && resolve(text) === path ? join(text, filename) : text;
}

function createReconnector(
  { settings, report }: Start,
  disk: Disk,
  file: number,
  backend: Backend,
  name: string,
) {
  return new Reconnector<NegotiatedConnection>({
    name,
    info: disk.info,
    policy: new ReconnectPolicy(settings.reconnectMs, Math.random),
    clock: systemClock,
    report,
    connect: reconnectBy(disk.server, settings),
    attach: (slot, connection) => backend.attach(file, slot, connection),
    fail: () => backend.fail(file, EIO),
    explain: (why) => explainLoss(disk.server, why),
  });
}

/** Puts further connections to use as they come. */
function adoptFurther(disk: Disk, reconnector: Reconnector<NegotiatedConnection>): void {
  disk.further.forEach((arriving, i) => {
    void arriving.then((connection) => {
      if (connection !== undefined) reconnector.attach(i + 1, connection);
    });
  });
}
