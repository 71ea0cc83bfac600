// Starts a session: from its settings to a mount that is ready.
//
// Called by process.ts. Connects before it mounts, so that most mistakes are reported before anything is visible. A
// failure undoes all earlier steps.

import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { MountError } from '../mount/errors.js';
import type { Mountpoint } from '../mount/mountpoint.js';
import type { FuseOptions } from '../mount/options.js';
import { capabilitiesOf } from '../nbd/capabilities.js';
import { exportedCacheFile } from '../transport/chunk-cache.js';
import { openServer } from '../transport/server.js';
import type { Endpoint } from '../transport/target.js';
import type { MountEvents } from '../worker/contract/messages.js';
import { spawnWorker } from '../worker/spawn.js';
import type { BackendRequest, PreparedBackend } from './backend/backend.js';
import { Cleanup } from './cleanup.js';
import { endpointOf } from './connect/endpoint.js';
import { keepsWrites, reconnectBy } from './connect/lost-server.js';
import { allowsSeveral, openDisk } from './connect/open-disk.js';
import { serverText } from './connect/server-text.js';
import type { FileKeeper } from './file-keeper.js';
import { keepPaths } from './kept-paths.js';
import type { MetricsService } from './metrics/metrics-service.js';
import { writePidfile } from './pidfile.js';
import { findPlace, type MountPlace } from './place.js';
import { type Ending, giveUp, Session } from './session.js';
import type { Report, Settings } from './settings.js';
import { SingleFileKeeper } from './single-file.js';

/** The context of a start. */
interface Start {
  readonly settings: Settings;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly cleanup: Cleanup;
}

/**
 * Opens the server, connects, mounts, and writes the pidfile.
 * @param signal cancels the start, which then rejects with the signal's reason
 * @param worker an idle worker for the kernel backend
 * @param place where it has been found already
 * @throws MountError, TransportError, NbdServerError, NbdProtocolError: one line each
 */
export async function startSession(
  settings: Settings,
  report: Report,
  signal: AbortSignal,
  worker: Worker | undefined,
  place: MountPlace | undefined,
): Promise<Session> {
  const cleanup = new Cleanup();
  try {
    const start = { settings, report, signal, cleanup };
    const prepared = await prepareBackend(settings, worker);
    cleanup.add(() => prepared.discard());
    const endpoint = endpointOf(settings, report);
    const { mountpoint, options } = place ?? (await findPlace(settings, report));
    cleanup.add(() => mountpoint.target.close());
    keepPaths(settings, endpoint, mountpoint);
    const metrics = await startMetrics(start);
    const { fileKeeper, ...found } = await open(start, mountpoint, options, endpoint);
    const request = { settings, mountpoint, options, ...found };
    return await serve(start, prepared, fileKeeper, request, metrics);
  } catch (error) {
    for (const failure of await cleanup.run()) report.error(failure);
    throw error;
  }
}

/** Before the mount, so that a wrong address is an early error. */
async function startMetrics({ settings, report, cleanup }: Start): Promise<MetricsService | undefined> {
  if (settings.metrics === undefined) return undefined;
  const { MetricsService } = await import('./metrics/metrics-service.js');
  return MetricsService.start(settings.metrics, report, cleanup);
}

/** The file keeper, and the parameters of the backend that depend on it. */
type Opened = Pick<
  BackendRequest,
  'files' | 'changing' | 'reconnectable' | 'wholeReads' | 'localCopy' | 'serverReadsAhead' | 'threads'
> & {
  readonly fileKeeper: FileKeeper;
};

/** Whether the server keeps the bytes of its export in a file. */
function hasLocalCopy({ server }: Settings): boolean {
  return server.kind === 'socket-activation' && exportedCacheFile(server.argv) !== undefined;
}

/** The properties that all files of a mount share. */
function commonOf({ settings }: Start, options: FuseOptions, endpoint: Endpoint) {
  const readOnly = settings.readOnly || options.readOnly;
  return { readOnly, server: serverText(settings.server), tls: endpoint.tls !== undefined };
}

async function open(start: Start, mountpoint: Mountpoint, options: FuseOptions, endpoint: Endpoint) {
  const { all, partitions } = start.settings;
  if (all) return openExportDirectory(start, mountpoint, options, endpoint);
  if (partitions) return openPartitions(start, mountpoint, options, endpoint);
  return openOne(start, mountpoint, options, endpoint);
}

/** Opens one export as a file of its disk and one of each partition. */
async function openPartitions(
  start: Start,
  mountpoint: Mountpoint,
  options: FuseOptions,
  endpoint: Endpoint,
): Promise<Opened> {
  const { WHOLE_DISK, PartitionedDiskKeeper } = await import('./partitioned-disk.js');
  const label = join(mountpoint.text, WHOLE_DISK);
  const named = { ...mountpoint, filename: WHOLE_DISK, label };
  const { fileKeeper: disk, ...opened } = await openOne(start, named, options, endpoint);
  const { report, signal } = start;
  const [whole] = opened.files;
  return { ...opened, fileKeeper: new PartitionedDiskKeeper({ disk, whole, mountpoint, report, signal }) };
}

/** Opens one export as one file. */
async function openOne(
  start: Start,
  mountpoint: Mountpoint,
  options: FuseOptions,
  endpoint: Endpoint,
): Promise<Opened> {
  const { settings, report, cleanup, signal } = start;
  const disk = await openDisk(endpoint, settings, report, cleanup, signal);
  const common = commonOf(start, options, endpoint);
  const readOnly = common.readOnly || capabilitiesOf(disk.info).readOnly;
  const several = allowsSeveral(settings, disk.server, disk.info) && !settings.partitions;
  const threads = several ? settings.threads : 1;
  report.detail(`threads=${threads}`);
  const fileKeeper = new SingleFileKeeper({ settings, report, mountpoint, disk, threads });
  cleanup.add(() => fileKeeper.stop());
  return {
    fileKeeper,
    threads,
    files: [{ ...common, name: mountpoint.filename, info: disk.info, readOnly }],
    changing: false,
    reconnectable: keepsWrites(disk.server, settings),
    wholeReads: reconnectBy(disk.server, settings) === undefined,
    localCopy: hasLocalCopy(settings),
    serverReadsAhead: disk.server.controlPath !== undefined,
  };
}

/** Opens all exports as the files of a directory. */
async function openExportDirectory(
  start: Start,
  mountpoint: Mountpoint,
  options: FuseOptions,
  endpoint: Endpoint,
): Promise<Opened> {
  const { settings, report, cleanup, signal } = start;
  const { ExportDirectoryKeeper } = await import('./exports/export-directory.js');
  if (endpoint.exportName !== '') {
    throw new MountError('--all shows every export: remove the export name from the URI');
  }
  const server = await openServer(endpoint, { handOver: true });
  cleanup.add(() => server.close());
  const common = commonOf(start, options, endpoint);
  const fileKeeper = new ExportDirectoryKeeper({ settings, report, mountpoint, server, common });
  cleanup.add(() => fileKeeper.stop());
  await fileKeeper.load(signal);
  const reconnectable = server.reconnectable || settings.restart;
  return {
    fileKeeper,
    files: [],
    changing: true,
    reconnectable,
    wholeReads: !reconnectable,
    localCopy: false,
    serverReadsAhead: false,
    threads: 1,
  };
}

/** Mounts, and returns when the files can be used. */
async function serve(
  { settings, report, signal, cleanup }: Start,
  prepared: PreparedBackend,
  fileKeeper: FileKeeper,
  request: Omit<BackendRequest, 'events'>,
  metrics: MetricsService | undefined,
): Promise<Session> {
  let end: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => {
    end = resolve;
  });
  const events: MountEvents = {
    files: fileKeeper,
    warning: (text) => report.line(text),
    detail: (text) => report.detail(text),
    unmounted: () => end({ kind: 'unmounted' }),
    failed: (why) => end({ kind: 'crash', why }),
  };
  signal.throwIfAborted();
  const { target } = request.mountpoint;
  // An open target would keep its file system busy.
  const backend = await prepared.start({ ...request, events }).finally(() => target.close());
  try {
    fileKeeper.begin(backend);
    await backend.ready;
    signal.throwIfAborted();
    await fileKeeper.ready();
    const { mountpoint } = request;
    const served = () => fileKeeper.served();
    const session = new Session({ report, mountpoint, backend, served, ended, cleanup });
    metrics?.provide(mountpoint.path, () => session.status());
    const { hides } = mountpoint;
    if (hides !== undefined) report.line(hides, 'info');
    // The pidfile is last: it says that everything can be used.
    if (settings.pidfile !== undefined) {
      const pidfile = await writePidfile(settings.pidfile);
      cleanup.add(() => pidfile.remove());
    }
    return session;
  } catch (error) {
    await giveUp(backend);
    throw error;
  }
}

async function prepareBackend({ backend }: Settings, worker: Worker | undefined): Promise<PreparedBackend> {
  if (backend === 'fuse-native')
    return (await import('./backend/fuse-native-backend.js')).prepareFuseNativeBackend();
  return (await import('./backend/kernel-backend.js')).prepareKernelBackend(worker ?? spawnWorker());
}
