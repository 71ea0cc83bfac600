// Opens a file's server and makes its connections: the first, and additional ones where the server allows several.
//
// Used by start.ts; export-directory.ts and read-thread-connections.ts use its helpers. The steps that `openDisk` adds
// to the cleanup close everything that it opens.

import { connectTo } from '../../chunks/status/writers.js';
import { capabilitiesOf } from '../../nbd/capabilities.js';
import { type ExportInfo, sameExport } from '../../nbd/export-info.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { reasonOf } from '../../transport/errors.js';
import { type NbdServer, openServer } from '../../transport/server.js';
import type { Endpoint } from '../../transport/target.js';
import type { Cleanup } from '../cleanup.js';
import type { Report, Settings } from '../settings.js';

/** An export with its first connection. */
export interface Disk {
  readonly server: NbdServer;
  readonly info: ExportInfo;
  readonly first: NegotiatedConnection;
  /** Additional connections, while they are being made; undefined for one that failed. */
  readonly further: readonly Promise<NegotiatedConnection | undefined>[];
}

/** Makes one connection to an export. */
type Connect = (signal: AbortSignal) => Promise<NegotiatedConnection>;

/** Whether to use several connections: with the kernel backend, to a server that is no child and allows them. */
export function allowsSeveral(
  { backend }: Pick<Settings, 'backend'>,
  server: Pick<NbdServer, 'reconnectable'>,
  info: ExportInfo,
): boolean {
  return backend === 'kernel' && server.reconnectable && capabilitiesOf(info).multiConn;
}

/** The number of connections to use. */
export function connectionCount(settings: Settings, server: NbdServer, info: ExportInfo): number {
  return allowsSeveral(settings, server, info) ? settings.connections : 1;
}

/** Makes an additional connection, which is optional: undefined when that fails, and the others serve. */
export async function connectFurther(
  connect: Connect,
  info: ExportInfo,
  report: Report,
  signal: AbortSignal,
): Promise<NegotiatedConnection | undefined> {
  try {
    const connection = await connect(signal);
    const difference = signal.aborted ? 'nbdfuse is stopping' : sameExport(info, connection.info);
    if (difference === undefined) return connection;
    connection.close();
    report.detail(`closed an additional connection: ${difference}`);
  } catch (error) {
    if (!signal.aborted) report.detail(`cannot make an additional connection: ${reasonOf(error)}`);
  }
  return undefined;
}

/** Says with -v what the handshake has corrected. */
export function reportCorrections({ corrections = [] }: ExportInfo, report: Report): void {
  for (const text of corrections) report.detail(text);
}

/** Opens a server, or takes one that runs already. */
async function openOrTake(endpoint: Endpoint, settings: Settings, report: Report): Promise<NbdServer> {
  const { server } = settings;
  const started = server.kind === 'socket-activation' ? server.started : undefined;
  if (started !== undefined) {
    started.output.passOn(report.serverSaid);
    return started.server;
  }
  // The worker serves the connections of the kernel backend, the main thread those of fuse-native.
  return openServer(endpoint, { handOver: settings.backend === 'kernel', onStderr: report.serverSaid });
}

/** Opens a server and connects to it. @throws TransportError, NbdServerError, NbdProtocolError */
export async function openDisk(
  endpoint: Endpoint,
  settings: Settings,
  report: Report,
  cleanup: Cleanup,
  signal: AbortSignal,
): Promise<Disk> {
  const server = await openOrTake(endpoint, settings, report);
  cleanup.add(() => server.close());
  const first = await connectTo(server, signal);
  cleanup.add(() => first.close());
  const { info } = first;
  reportCorrections(info, report);
  const count = connectionCount(settings, server, info);
  report.detail(`connections=${count}`);
  const stop = new AbortController();
  const connect: Connect = (signal) => connectTo(server, signal);
  const further = Array.from({ length: count - 1 }, () => connectFurther(connect, info, report, stop.signal));
  cleanup.add(async () => {
    stop.abort();
    for (const connection of await Promise.all(further)) connection?.close();
  });
  return { server, info, first, further };
}
