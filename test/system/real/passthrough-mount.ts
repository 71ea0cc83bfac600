// A program that mounts an NBD server by the kernel backend and lets the kernel read a local file in its place.
//
// Started by passthrough.test.ts, maybe as another user. argv: MOUNTPOINT, an NBD URI, and settings as JSON. Says
// `ready` on stdout; then obeys lines on stdin, and answers each with a line of JSON: `use PATH`, `status`, `stop`. The
// end of stdin stops it, too. Lines for --verbose go to stderr.

import { createInterface } from 'node:readline';
import { resolveMountpoint } from '../../../src/mount/mountpoint.js';
import { parseFuseOptions } from '../../../src/mount/options.js';
import type { Backend } from '../../../src/session/backend/backend.js';
import { prepareKernelBackend } from '../../../src/session/backend/kernel-backend.js';
import { endpointOf } from '../../../src/session/connect/endpoint.js';
import type { Report, Settings } from '../../../src/session/settings.js';
import { openServer } from '../../../src/transport/server.js';
import { spawnWorker } from '../../../src/worker/spawn.js';

/** The settings of a test. */
export type MountSettings = Partial<Pick<Settings, 'readOnly' | 'cache' | 'partitions' | 'threads'>>;

const say = (text: string): void => console.error(text);
const REPORT: Report = {
  line: say,
  detail: say,
  error: (error) => say(String(error)),
  serverSaid: () => undefined,
  status: () => undefined,
};

function settingsOf(mountpoint: string, uri: string, given: MountSettings): Settings {
  return {
    mountpoint,
    server: { kind: 'uri', uri },
    all: false,
    partitions: false,
    exportName: undefined,
    connections: 1,
    fuseOptions: [],
    pidfile: undefined,
    metrics: undefined,
    readOnly: true,
    threads: 1,
    verbose: false,
    logFormat: 'text',
    logFile: undefined,
    backend: 'kernel',
    cache: 'writeback',
    reconnectMs: 0,
    restart: false,
    timeoutMs: 0,
    settleMs: 0,
    ...given,
  };
}

async function mount(settings: Settings): Promise<Backend> {
  const prepared = prepareKernelBackend(spawnWorker());
  const server = await openServer(endpointOf(settings, REPORT), { handOver: true });
  const first = await server.connect();
  const mountpoint = await resolveMountpoint(settings.mountpoint);
  const { readOnly, threads } = settings;
  const backend = await prepared.start({
    settings,
    mountpoint,
    options: parseFuseOptions([]),
    files: [{ name: mountpoint.filename, readOnly, info: first.info, server: 'a test', tls: false }],
    changing: false,
    reconnectable: false,
    wholeReads: false,
    localCopy: true,
    serverReadsAhead: false,
    threads,
    events: {
      warning: say,
      detail: say,
      unmounted: () => undefined,
      failed: (why) => {
        say(why);
        process.exit(2);
      },
      files: { connectionLost: (_, __, why) => say(why), connectionAccepted: () => undefined },
    },
  });
  await mountpoint.target.close();
  backend.attach(0, 0, first);
  await backend.ready;
  for (let i = 1; i < threads; i++)
    await backend.addReadThread?.(await server.connect(), { connectionLost: say });
  return backend;
}

async function obey(backend: Backend, line: string): Promise<unknown> {
  const [word, path = ''] = line.split(' ');
  switch (word) {
    case 'use':
      return (await backend.usePassthrough(path)) ?? 'accepted';
    case 'status':
      return (await backend.status())[0].status;
    default:
      return stop(backend);
  }
}

async function stop(backend: Backend): Promise<unknown> {
  await backend.unmount({ lazy: false });
  return backend.stop(1000);
}

const [mountpoint, uri, given] = process.argv.slice(2);
const backend = await mount(settingsOf(mountpoint, uri, JSON.parse(given)));
console.log('ready');
for await (const line of createInterface(process.stdin)) {
  console.log(JSON.stringify(await obey(backend, line)));
  if (line === 'stop') process.exit(0);
}
await stop(backend);
process.exit(0);
