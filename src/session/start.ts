// Starts a session: from its settings to a mount that is ready.
//
// Called by process.ts. Connects before it mounts, so that most mistakes are reported before anything is visible. A
// failure undoes all earlier steps.

import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { spawnWorker } from '../bridge/spawn.js';
import { MountError } from '../mount/errors.js';
import { checkDirectory, type Mountpoint, resolveMountpoint } from '../mount/mountpoint.js';
import { type FuseOptions, parseFuseOptions } from '../mount/options.js';
import { isReadOnly } from '../nbd/export-info.js';
import { openServer } from '../transport/server.js';
import type { Endpoint } from '../transport/target.js';
import type { BackendEvents, BackendRequest, PreparedBackend } from './backend.js';
import { allowsSeveral, openDisk } from './disk.js';
import { DiskKeeper } from './disk-keeper.js';
import { endpointOf } from './endpoint.js';
import type { Keeper } from './keeper.js';
import { reconnectBy } from './lost-server.js';
import { writePidfile } from './pidfile.js';
import { serverText } from './server-text.js';
import { type Ending, giveUp, Session } from './session.js';
import type { Report, Settings } from './settings.js';
import { threadCount } from './threads.js';
import { Undo } from './undo.js';

/** The context of a start. */
interface Start {
  readonly settings: Settings;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly undo: Undo;
}

/**
 * Opens the server, connects, mounts, and writes the pidfile.
 * @param signal cancels the start, which then rejects with the signal's reason
 * @param worker an idle worker for the kernel backend
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
    undo.add(() => mountpoint.target.close());
    if (mountpoint.notice !== undefined) report.line(mountpoint.notice, 'info');
    const { keeper, ...found } = settings.all
      ? await openFolder(start, mountpoint, options, endpoint)
      : await openOne(start, mountpoint, options, endpoint);
    return await serve(start, prepared, keeper, { settings, mountpoint, options, ...found });
  } catch (error) {
    for (const failure of await undo.run()) report.error(failure);
    throw error;
  }
}

/** The keeper of the files, and the parameters of the backend that depend on it. */
type Opened = Pick<BackendRequest, 'files' | 'changing' | 'reconnectable' | 'threads'> & {
  readonly keeper: Keeper;
};

/** The properties that all files of a mount share. */
function commonOf({ settings }: Start, options: FuseOptions, endpoint: Endpoint) {
  const readOnly = settings.readOnly || options.readOnly;
  return { readOnly, server: serverText(settings.server), tls: endpoint.tls !== undefined };
}

/** Opens one export as one file. */
async function openOne(
  start: Start,
  mountpoint: Mountpoint,
  options: FuseOptions,
  endpoint: Endpoint,
): Promise<Opened> {
  const { settings, report, undo, signal } = start;
  const disk = await openDisk(endpoint, settings, report, undo, signal);
  const common = commonOf(start, options, endpoint);
  const readOnly = common.readOnly || isReadOnly(disk.info);
  const several = allowsSeveral(settings, disk.server, disk.info);
  const threads = several ? threadCount(settings.threads, availableParallelism()) : 1;
  report.detail(`threads=${threads}`);
  const keeper = new DiskKeeper({ settings, report, mountpoint, disk, threads });
  undo.add(() => keeper.stop());
  return {
    keeper,
    threads,
    files: [{ ...common, name: mountpoint.filename, info: disk.info, readOnly }],
    changing: false,
    reconnectable: reconnectBy(disk.server, settings) !== undefined,
  };
}

/** Opens all exports as the files of a directory. */
async function openFolder(
  start: Start,
  mountpoint: Mountpoint,
  options: FuseOptions,
  endpoint: Endpoint,
): Promise<Opened> {
  const { settings, report, undo, signal } = start;
  const { ExportFolder } = await import('./export-folder.js');
  await checkDirectory(mountpoint);
  if (endpoint.exportName !== '') {
    throw new MountError('--all shows every export: remove the export name from the URI');
  }
  const server = await openServer(endpoint, { handOver: true });
  undo.add(() => server.close());
  const common = commonOf(start, options, endpoint);
  const keeper = new ExportFolder({ settings, report, mountpoint, server, common });
  undo.add(() => keeper.stop());
  await keeper.load(signal);
  const reconnectable = server.reconnectable || settings.restart;
  return { keeper, files: [], changing: true, reconnectable, threads: 1 };
}

/** Mounts, and returns when the files can be used. */
async function serve(
  { settings, report, signal, undo }: Start,
  prepared: PreparedBackend,
  keeper: Keeper,
  request: Omit<BackendRequest, 'events'>,
): Promise<Session> {
  let end: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => {
    end = resolve;
  });
  const events: BackendEvents = {
    lost: (file, connection, why, outcome) => keeper.lost(file, connection, why, outcome),
    accepted: (file, connection) => keeper.accepted(file, connection),
    listWanted: () => keeper.listWanted?.(),
    wanted: (file) => keeper.wanted?.(file),
    descriptionWanted: (file) => keeper.descriptionWanted?.(file),
    idle: (file) => keeper.idle?.(file),
    readerWanted: () => keeper.readerWanted?.(),
    readerLost: (why) => keeper.readerLost?.(why),
    warning: (text) => report.line(text),
    unmounted: () => end({ kind: 'unmounted' }),
    crashed: (why) => end({ kind: 'crash', why }),
  };
  signal.throwIfAborted();
  const { target } = request.mountpoint;
  // An open target would keep its file system busy.
  const backend = await prepared.start({ ...request, events }).finally(() => target.close());
  try {
    keeper.begin(backend);
    await backend.ready;
    signal.throwIfAborted();
    await keeper.ready();
    if (settings.pidfile !== undefined) {
      const pidfile = await writePidfile(settings.pidfile);
      undo.add(() => pidfile.remove());
    }
  } catch (error) {
    await giveUp(backend);
    throw error;
  }
  const { mountpoint } = request;
  return new Session({ report, mountpoint, backend, served: () => keeper.served(), ended, undo });
}

async function prepareBackend({ backend }: Settings, worker: Worker | undefined): Promise<PreparedBackend> {
  if (backend === 'fuse-native') return (await import('./fuse-native-backend.js')).prepareFuseNativeBackend();
  return (await import('./kernel-backend.js')).prepareKernelBackend(worker ?? spawnWorker());
}
