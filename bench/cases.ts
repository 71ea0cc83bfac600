// What is measured: server, job and the ratio to C nbdfuse that must be reached.

import type { FioJob } from './fio.js';
import { nbdkit, nbdkitTcp, nbdkitTls, qemuNbd, type Target } from './servers.js';

/** One line of the table. */
export interface Case {
  readonly name: string;
  readonly text: string;
  /** The least median ratio to the peer, if there is a bar. */
  readonly bar?: number;
  readonly serve: (folder: string) => Promise<Target>;
  readonly job: FioJob;
  /** Measured by a run before which the file's cached pages are dropped. */
  readonly cold?: boolean;
  /** Mounted and used by a normal user, whose home may hold certificates. */
  readonly asNobody?: boolean;
}

const memory = (folder: string): Promise<Target> => nbdkit(folder, 'memory', '1G');
const away =
  (milliseconds: number) =>
  (folder: string): Promise<Target> =>
    nbdkit(
      folder,
      '--threads=64',
      '--filter=delay',
      'memory',
      '1G',
      `rdelay=${milliseconds}ms`,
      `wdelay=${milliseconds}ms`,
    );

const random4k = (rw: string, jobs: number): FioJob => ({
  rw,
  bs: '4k',
  size: '512M',
  direct: 1,
  numjobs: jobs,
});
const sequential = (rw: string, direct: number): FioJob => ({ rw, bs: '1M', size: '512M', direct });

/** Jobs that run for a time, not for an amount. */
const timed = (job: FioJob): FioJob => ({ ...job, time_based: 1 });

const LOCAL: readonly Case[] = [
  {
    name: 'randread-4k-1',
    text: '4k random read, direct, 1 job',
    bar: 1.1,
    serve: memory,
    job: timed(random4k('randread', 1)),
  },
  {
    name: 'randread-4k-8',
    text: '4k random read, direct, 8 jobs',
    bar: 1.6,
    serve: memory,
    job: timed(random4k('randread', 8)),
  },
  {
    name: 'randwrite-4k-1',
    text: '4k random write, direct, 1 job',
    bar: 1.05,
    serve: memory,
    job: timed(random4k('randwrite', 1)),
  },
  {
    name: 'randwrite-4k-8',
    text: '4k random write, direct, 8 jobs',
    bar: 1.4,
    serve: memory,
    job: timed(random4k('randwrite', 8)),
  },
  {
    name: 'randwrite-4k-buffered',
    text: '4k random write, buffered, fsync at the end',
    bar: 8,
    serve: memory,
    job: { rw: 'randwrite', bs: '4k', size: '256M', io_size: '128M', end_fsync: 1 },
  },
  {
    name: 'seqread-buffered',
    text: '1M sequential read, buffered',
    bar: 1.7,
    serve: memory,
    job: sequential('read', 0),
    cold: true,
  },
  {
    name: 'seqread-direct',
    text: '1M sequential read, direct',
    bar: 1.05,
    serve: memory,
    job: timed(sequential('read', 1)),
  },
  {
    name: 'seqwrite-buffered',
    text: '1M sequential write, buffered, fsync at the end',
    bar: 1.15,
    serve: memory,
    job: { ...sequential('write', 0), end_fsync: 1 },
  },
  {
    name: 'seqwrite-direct',
    text: '1M sequential write, direct',
    bar: 1,
    serve: memory,
    job: timed(sequential('write', 1)),
  },
  {
    name: 'reread',
    text: 're-read of a file that was closed and opened again',
    bar: 3,
    serve: memory,
    job: { ...sequential('read', 0), size: '256M', loops: 1, invalidate: 0 },
  },
];

const NETWORK: readonly Case[] = [
  {
    name: 'tcp-seqread',
    text: 'TCP: 1M sequential read, buffered',
    serve: (f) => nbdkitTcp(f, 'memory', '1G'),
    job: sequential('read', 0),
    cold: true,
  },
  {
    name: 'tcp-randread-4k-1',
    text: 'TCP: 4k random read, direct, 1 job',
    serve: (f) => nbdkitTcp(f, 'memory', '1G'),
    job: timed(random4k('randread', 1)),
  },
  {
    name: 'tcp-randread-4k-8',
    text: 'TCP: 4k random read, direct, 8 jobs',
    serve: (f) => nbdkitTcp(f, 'memory', '1G'),
    job: timed(random4k('randread', 8)),
  },
  {
    name: 'tls-seqread',
    text: 'TLS: 1M sequential read, buffered',
    bar: 1,
    serve: (f) => nbdkitTls(f, 'memory', '1G'),
    asNobody: true,
    job: sequential('read', 0),
    cold: true,
  },
  {
    name: 'tls-randread-4k-1',
    text: 'TLS: 4k random read, direct, 1 job',
    bar: 1,
    serve: (f) => nbdkitTls(f, 'memory', '1G'),
    asNobody: true,
    job: timed(random4k('randread', 1)),
  },
  {
    name: 'tls-randread-4k-8',
    text: 'TLS: 4k random read, direct, 8 jobs',
    bar: 1,
    serve: (f) => nbdkitTls(f, 'memory', '1G'),
    asNobody: true,
    job: timed(random4k('randread', 8)),
  },
];

const far = (milliseconds: number): readonly Case[] => {
  const serve = away(milliseconds);
  const bars = milliseconds === 10;
  return [
    {
      name: `far${milliseconds}-seqread`,
      text: `${milliseconds} ms away: sequential read`,
      ...(bars && { bar: 15 }),
      serve,
      job: { ...sequential('read', 0), runtime: 3 },
      cold: true,
    },
    {
      name: `far${milliseconds}-seqread-user`,
      text: `${milliseconds} ms away: sequential read as a normal user`,
      ...(bars && { bar: 15 }),
      serve,
      job: { ...sequential('read', 0), runtime: 3 },
      cold: true,
      asNobody: true,
    },
    {
      name: `far${milliseconds}-randread-64k-8`,
      text: `${milliseconds} ms away: 64k random read, 8 jobs`,
      ...(bars && { bar: 1.8 }),
      serve,
      job: timed({ rw: 'randread', bs: '64k', size: '512M', direct: 1, numjobs: 8 }),
    },
    {
      name: `far${milliseconds}-write-4k`,
      text: `${milliseconds} ms away: 4k buffered writes`,
      ...(bars && { bar: 1000 }),
      serve,
      job: { rw: 'write', bs: '4k', size: '256M', runtime: 3, end_fsync: 0 },
    },
  ];
};

const CURVE: readonly Case[] = [1, 2, 4, 8, 16, 32].map((jobs) => ({
  name: `curve-${jobs}`,
  text: `4k random read, direct, ${jobs} jobs`,
  serve: memory,
  job: timed(random4k('randread', jobs)),
}));

const QCOW2: readonly Case[] = [
  {
    name: 'qcow2-randwrite',
    text: 'qcow2 through qemu-nbd: 4k random write, direct, 8 jobs',
    serve: (f) => qemuNbd(f, '1G'),
    job: timed(random4k('randwrite', 8)),
  },
  {
    name: 'qcow2-seqwrite',
    text: 'qcow2 through qemu-nbd: 1M sequential write, buffered',
    serve: (f) => qemuNbd(f, '1G'),
    job: { ...sequential('write', 0), end_fsync: 1 },
  },
];

/** All of them, in the order of the table. */
export const CASES: readonly Case[] = [
  ...LOCAL,
  ...NETWORK,
  ...far(1),
  ...far(10),
  ...far(50),
  ...QCOW2,
  ...CURVE,
];
