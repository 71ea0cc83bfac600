// The cases for fio: server, job, and the required ratio to C nbdfuse. The table shows them in this order; a
// name's first word says where the server is.

import type { Scope } from '../../test/support/run/scope.js';
import type { FioJob } from './fio.js';
import { nbdkit, nbdkitTcp, nbdkitTls, qemuNbd, type Target } from './servers.js';

/** One line of the table. */
export interface Case {
  readonly name: string;
  readonly text: string;
  /** The least median ratio to the peer, if there is a bar. */
  readonly bar?: number;
  /** The most CPU seconds for a GiB, as a multiple of the peer's. */
  readonly cpuBar?: number;
  /** Jobs of the curve that this case is a point of. */
  readonly curve?: number;
  readonly serve: (scope: Scope) => Promise<Target>;
  readonly job: FioJob;
  /** Mounted and used by a normal user, whose home may hold certificates. */
  readonly asNobody?: boolean;
  /** The case sends nothing to the server, so the server is no limit. */
  readonly noLimit?: boolean;
}

type Serve = Case['serve'];
type Bars = Readonly<Record<string, number>>;

const MEMORY = ['memory', '1G'];
const onSocket: Serve = (scope) => nbdkit(scope, ...MEMORY);
const onTcp: Serve = (scope) => nbdkitTcp(scope, ...MEMORY);
const onTls: Serve = (scope) => nbdkitTls(scope, ...MEMORY);

/** A server that answers each read and each write `milliseconds` late, up to 64 at once. */
const away =
  (milliseconds: number): Serve =>
  (scope) => {
    const delays = [`rdelay=${milliseconds}ms`, `wdelay=${milliseconds}ms`];
    return nbdkit(scope, '--threads=64', '--filter=delay', ...MEMORY, ...delays);
  };

/** Runs for a time, not for an amount, and bypasses the kernel's cache. */
const direct = (rw: string, bs: string, numjobs: number): FioJob => ({
  rw,
  bs,
  size: '512M',
  direct: 1,
  numjobs,
  time_based: 1,
});
/** Runs for an amount, so that it uses no page twice, and ends when the bytes are at the server. */
const buffered = (rw: string, bs: string, size: string): FioJob => ({
  rw,
  bs,
  size,
  ...(rw.includes('write') && { end_fsync: 1 }),
});

const JOBS: readonly (readonly [name: string, text: string, job: FioJob])[] = [
  ['randread-4k-1', '4k random read, direct, 1 job', direct('randread', '4k', 1)],
  ['randread-4k-8', '4k random read, direct, 8 jobs', direct('randread', '4k', 8)],
  ['randwrite-4k-1', '4k random write, direct, 1 job', direct('randwrite', '4k', 1)],
  ['randwrite-4k-8', '4k random write, direct, 8 jobs', direct('randwrite', '4k', 8)],
  [
    'randwrite-4k-buffered',
    '4k random write, buffered, fsync at the end',
    buffered('randwrite', '4k', '256M'),
  ],
  ['seqread-buffered', '1M sequential read, buffered', buffered('read', '1M', '1G')],
  ['seqread-direct', '1M sequential read, direct', direct('read', '1M', 1)],
  ['seqwrite-buffered', '1M sequential write, buffered, fsync at the end', buffered('write', '1M', '1G')],
  ['seqwrite-direct', '1M sequential write, direct', direct('write', '1M', 1)],
];

/** The jobs above on one server; the cases in `bars` have a bar. */
function everyJob(place: string, title: string, serve: Serve, bars: Bars, asNobody = false): readonly Case[] {
  return JOBS.map(([name, text, job]) => ({
    name: `${place}-${name}`,
    text: `${title}${text}`,
    bar: bars[name],
    serve,
    job,
    asNobody,
    ...(place === 'unix' && /^seq.*buffered$/.test(name) && { cpuBar: 1.2 }),
  }));
}

const UNIX_BARS: Bars = {
  'randread-4k-1': 1.1,
  'randread-4k-8': 1.6,
  'randwrite-4k-1': 1.05,
  'randwrite-4k-8': 1.4,
  'randwrite-4k-buffered': 8,
  'seqread-buffered': 1.7,
  'seqread-direct': 1.05,
  'seqwrite-buffered': 1.15,
  'seqwrite-direct': 1,
};
const TLS_BARS: Bars = { 'seqread-buffered': 1, 'seqread-direct': 1, 'randread-4k-1': 1, 'randread-4k-8': 1 };

const REREAD: Case = {
  name: 'reread',
  text: 're-read of a file that was closed and opened again',
  bar: 3,
  serve: onSocket,
  job: { ...buffered('read', '1M', '256M'), invalidate: 0 },
  noLimit: true,
};

const REMOTE_BARS: Bars = { seqread: 15, 'seqread-user': 15, 'randread-64k-8': 1.8, 'write-4k': 1000 };

function remote(milliseconds: number): readonly Case[] {
  const jobs: readonly (readonly [name: string, text: string, job: FioJob])[] = [
    ['seqread', 'sequential read, buffered', buffered('read', '1M', '1G')],
    ['seqread-user', 'sequential read, buffered, as a normal user', buffered('read', '1M', '1G')],
    ['randread-64k-8', '64k random read, direct, 8 jobs', direct('randread', '64k', 8)],
    ['write-4k', '4k sequential write, buffered, fsync at the end', buffered('write', '4k', '1G')],
  ];
  return jobs.map(([name, text, job]) => ({
    name: `remote${milliseconds}-${name}`,
    text: `${milliseconds} ms away: ${text}`,
    bar: milliseconds === 10 ? REMOTE_BARS[name] : undefined,
    serve: away(milliseconds),
    job,
    asNobody: name.endsWith('user'),
  }));
}

const onQcow2: Serve = (scope) => qemuNbd(scope, '1G');
const QCOW2: readonly Case[] = [
  {
    name: 'qcow2-randwrite-4k-8',
    text: '4k random write, direct, 8 jobs',
    job: direct('randwrite', '4k', 8),
  },
  { name: 'qcow2-randread-4k-8', text: '4k random read, direct, 8 jobs', job: direct('randread', '4k', 8) },
  {
    name: 'qcow2-seqwrite-buffered',
    text: '1M sequential write, buffered, fsync at the end',
    job: buffered('write', '1M', '1G'),
  },
  { name: 'qcow2-seqread-buffered', text: '1M sequential read, buffered', job: buffered('read', '1M', '1G') },
].map((one) => ({ ...one, text: `qcow2: ${one.text}`, serve: onQcow2 }));

const CURVE: readonly Case[] = [1, 2, 4, 8, 16, 32].map((jobs) => ({
  name: `curve-${jobs}`,
  text: `curve: 4k random read, direct, ${jobs} ${jobs === 1 ? 'job' : 'jobs'}`,
  curve: jobs,
  serve: onSocket,
  job: direct('randread', '4k', jobs),
}));

/** All of them, in the order of the table. */
export const CASES: readonly Case[] = [
  ...everyJob('unix', '', onSocket, UNIX_BARS),
  REREAD,
  ...everyJob('tcp', 'TCP: ', onTcp, {}),
  ...everyJob('tls', 'TLS: ', onTls, TLS_BARS, true),
  ...remote(1),
  ...remote(10),
  ...remote(50),
  ...QCOW2,
  ...CURVE,
];
