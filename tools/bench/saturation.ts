// Simulates where one worker saturates, on machines with more cores than this one.
//
// A closed system: each job's request goes through the application and the kernel, the worker, the server,
// the worker again and back; every step takes a core for its time, a worker does one thing at a time, and a
// step waits for both. The worker's time was measured on a real run, the others are assumptions: the result
// is an estimate. See docs/internals/decisions/0015-read-threads.md.

/** Microseconds of processor time that one 4k random read takes in each place. */
const COSTS = {
  /** Assumed: fio, the system call, the kernel's FUSE queue, two switches of context. */
  application: 9,
  /** Measured: the worker until the request is sent, half of its total of 3.37 s/GiB = 12.9. */
  request: 6.5,
  /** Assumed: nbdkit's memory plugin, which may use as many threads as there are connections. */
  server: 12,
  reply: 6.4,
} as const;

/** Microseconds, assumed, for which a request holds the lock of the kernel's one queue of requests. */
const QUEUE_LOCK = 0.6;

const JOBS = 64;
const REQUESTS = 60_000;

/** A resource that does one thing at a time. */
class Station {
  freeAt = 0;
}

interface Step {
  readonly cost: number;
  readonly place: 'core' | 'worker' | 'lock';
}

const STEPS: readonly Step[] = [
  { cost: COSTS.application, place: 'core' },
  { cost: QUEUE_LOCK, place: 'lock' },
  { cost: COSTS.request, place: 'worker' },
  { cost: COSTS.server, place: 'core' },
  { cost: COSTS.reply, place: 'worker' },
];

/** Requests per second of `JOBS` jobs with so many cores and workers. */
export function simulate(cores: number, workers: number): number {
  const coresFree = Array.from({ length: cores }, () => 0);
  const lock = new Station();
  const servants = Array.from({ length: workers }, () => new Station());
  const jobs = Array.from({ length: JOBS }, (_, i) => ({ at: i * 0.01, step: 0, worker: servants[0] }));
  let done = 0;
  let end = 0;
  while (done < REQUESTS) {
    // The job that could begin first goes first.
    const job = jobs.reduce((first, one) => (one.at < first.at ? one : first));
    const { cost, place } = STEPS[job.step];
    let core = 0;
    for (let i = 1; i < cores; i++) if (coresFree[i] < coresFree[core]) core = i;
    if (place === 'worker' && STEPS[job.step - 1].place === 'lock')
      job.worker = servants.reduce((first, one) => (one.freeAt < first.freeAt ? one : first));
    const station = place === 'worker' ? job.worker : place === 'lock' ? lock : undefined;
    const begin = Math.max(job.at, coresFree[core], station?.freeAt ?? 0);
    if (begin > job.at) {
      // Not yet: other jobs may start earlier. The job tries again at that time.
      job.at = begin;
      continue;
    }
    const until = begin + cost;
    coresFree[core] = until;
    if (station !== undefined) station.freeAt = until;
    job.at = until;
    job.step++;
    if (job.step < STEPS.length) continue;
    job.step = 0;
    done++;
    end = until;
  }
  return (done / end) * 1e6;
}

/** Cores and workers for which the table is made. */
export const CORES: readonly number[] = [2, 4, 8, 16, 32];
export const WORKERS: readonly number[] = [1, 2, 4, 8];
