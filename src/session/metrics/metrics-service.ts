// --metrics: serves the metrics of this mount over HTTP, from before the mount until after it.
//
// Loaded by start.ts only with the option. The worker counts in any case; it makes a status when somebody asks, at most
// four times a second for each format.

import { keptPath } from '../../linux/kept-path.js';
import { printable } from '../../nbd/text.js';
import { codeOf, reasonOf } from '../../transport/errors.js';
import type { Cleanup } from '../cleanup.js';
import { Deadline } from '../deadline.js';
import type { MetricsAddress, Report } from '../settings.js';
import { expositionText, type Family, type MetricsFormat } from './exposition.js';
import { type MeasuredFile, mountFamilies } from './families.js';
import { type MetricsServer, startMetricsServer } from './http-server.js';
import { checkSocketFile, listenAtSocketFile } from './socket-file.js';

/** Milliseconds for which requests share one answer. */
const SHARED_TIME = 250;
/** Milliseconds in which the worker makes a status. */
const STATUS_TIME = 2000;

/** Makes the status of all files of the mount. */
type StatusSource = () => Promise<readonly MeasuredFile[]>;

/** The mount, once it is ready. */
interface MeasuredSession {
  readonly mountpoint: string;
  readonly status: StatusSource;
}

/** The metrics of this process, under the names that Prometheus' client libraries use. */
function processFamilies(): readonly Family[] {
  const { user, system } = process.cpuUsage();
  const own = (family: Omit<Family, 'samples'>, value: number): Family => ({
    ...family,
    samples: [{ labels: {}, value }],
  });
  const started = Math.round(Date.now() / 1000 - process.uptime());
  return [
    own(
      { name: 'process_cpu_seconds', type: 'counter', unit: 'seconds', help: 'CPU time of the process.' },
      (user + system) / 1e6,
    ),
    own(
      { name: 'process_resident_memory_bytes', type: 'gauge', unit: 'bytes', help: 'Memory of the process.' },
      process.memoryUsage.rss(),
    ),
    own(
      {
        name: 'process_start_time_seconds',
        type: 'gauge',
        unit: 'seconds',
        help: 'Start of the process since the Unix epoch.',
      },
      started,
    ),
  ];
}

/** The address as the user may type it. */
function addressText(address: MetricsAddress): string {
  if (address.kind === 'unix') return `unix:${printable(address.path)}`;
  const { host, port } = address;
  return `${host.includes(':') ? `[${host}]` : printable(host)}:${port}`;
}

/** Why the address cannot be used, with the next step where there is one. */
function reasonAt(error: unknown): string {
  const next = codeOf(error) === 'EADDRINUSE' ? '; name another port, or 0 for any free one' : '';
  return `${reasonOf(error)}${next}`;
}

function cannotServe(address: MetricsAddress, error: unknown): Error {
  return new Error(`cannot serve metrics at ${addressText(address)}: ${reasonAt(error)}`, { cause: error });
}

/** Finds out before the start whether a socket can be made; a port is not tried. @throws Error, one line */
export async function checkMetrics(address: MetricsAddress): Promise<void> {
  if (address.kind !== 'unix') return;
  await checkSocketFile(address.path).catch((error) => {
    throw cannotServe(address, error);
  });
}

/** Listens. @throws Error */
async function listen(
  address: MetricsAddress,
  source: (format: MetricsFormat) => Promise<string>,
  cleanup: Cleanup,
): Promise<MetricsServer> {
  if (address.kind === 'tcp') return startMetricsServer({ host: address.host, port: address.port }, source);
  const { descriptor, remove } = await listenAtSocketFile(keptPath(address.path));
  cleanup.add(remove);
  return startMetricsServer({ fd: descriptor }, source);
}

/** See the file's head. */
export class MetricsService {
  #session: MeasuredSession | undefined;
  /** The last answer in each format. */
  readonly #answers = new Map<MetricsFormat, { readonly madeAt: number; readonly text: Promise<string> }>();

  /** Begins to listen, until `cleanup`. @throws Error, one line */
  static async start(address: MetricsAddress, report: Report, cleanup: Cleanup): Promise<MetricsService> {
    const service = new MetricsService();
    const server = await listen(address, (format) => service.#text(format), cleanup).catch((error) => {
      throw cannotServe(address, error);
    });
    cleanup.add(() => server.close());
    const { port } = server;
    const where = address.kind === 'unix' || port === undefined ? address : { ...address, port };
    const url = where.kind === 'unix' ? addressText(where) : `http://${addressText(where)}/metrics`;
    report.line(`metrics at ${url}`, 'info');
    return service;
  }

  /** The mount is ready: from now on there are metrics. */
  provide(mountpoint: string, status: StatusSource): void {
    this.#session = { mountpoint, status };
  }

  #text(format: MetricsFormat): Promise<string> {
    const now = performance.now();
    const last = this.#answers.get(format);
    if (last !== undefined && now - last.madeAt < SHARED_TIME) return last.text;
    const text = this.#make(format);
    this.#answers.set(format, { madeAt: now, text });
    return text;
  }

  async #make(format: MetricsFormat): Promise<string> {
    if (this.#session === undefined) throw new Error('the mount is not ready');
    const { mountpoint, status } = this.#session;
    const outcome = await new Deadline(STATUS_TIME).outcomeOf(status());
    if (outcome.kind !== 'done') throw new Error('the worker does not answer');
    const families = mountFamilies([{ mountpoint, files: outcome.value }]);
    return expositionText([...families, ...processFamilies()], format);
  }
}
