// The parameters of one seed's history: the export, the mount, the server's behaviour, and the possible
// faults.
//
// Each seed enables a random part of the faults, so that few of them occur often together ("swarm testing").

import type { BlockSizes } from '../../src/nbd/export-info.js';
import { Random } from './random.js';
import { UNIT } from './units.js';

export const FAULTS = [
  'interrupt',
  'stall',
  'timeout',
  'close',
  'kill',
  'freeze',
  'replace',
  'early ack',
  'errors',
  'late reading',
  'fail',
  'stop',
  'unmount',
  'successor',
  'no reconnecting',
  'unreachable',
] as const;

/** Faults of a later date. They and all of `Profile` that came with them have random numbers of their own. */
const LATER_FAULTS: readonly string[] = ['unreachable'];

/** Ways to make rare orders of events frequent. A seed has one of them at most. */
const FOCUSES = ['loss during a replay', 'losses in turn', 'O_DSYNC'] as const;

export type Focus = (typeof FOCUSES)[number];

export type Fault = (typeof FAULTS)[number];

/** Units of a disk whose writes are spread over all of it: a replay has several parts. */
const BULK_UNITS = 8192;

/** See the file's head. */
export interface Profile {
  readonly seed: number;
  readonly faults: ReadonlySet<Fault>;
  readonly files: number;
  /** Of each file. */
  readonly units: number;
  readonly blockSizes: BlockSizes | undefined;
  readonly headers: 'simple' | 'structured' | 'extended';
  readonly flush: boolean;
  readonly fua: boolean;
  readonly zeroes: boolean;
  readonly allocation: boolean;
  /** Programs call stat(2). */
  readonly stats: boolean;
  /** The server supports whole replies, and disconnects where it cannot read for another one, as qemu-nbd does. */
  readonly wholeReplies: boolean;
  readonly connections: number;
  readonly cache: 'writeback' | 'writethrough' | 'none';
  readonly unflushedLimit: number;
  readonly timeout: number;
  readonly readAhead: boolean;
  readonly unixSocket: boolean;
  /** The kernel reports the server's process, for a Unix socket. */
  readonly knowsPeer: boolean;
  /** Milliseconds after which the server has executed or dropped the commands of a closed connection. */
  readonly settleTime: number;
  /** The server is a child whose end the main thread sees. */
  readonly ownServer: boolean;
  /** Bytes that a socket holds for its reader. */
  readonly room: number;
  /** The server carries out a connection's requests one after another. */
  readonly inOrder: boolean;
  /** Places at which requests overlap, in units. */
  readonly hot: readonly number[];
  /** Units of a usual request. */
  readonly usual: number;
  /** Share of large requests. */
  readonly large: number;
  /** Many large writes and few fsyncs, so that a replay has several parts. */
  readonly bulk: boolean;
  /** Bulk writes go to all places, so that the newest bytes are many. */
  readonly spread: boolean;
  readonly focus: Focus | undefined;
  /** The step at which the stop of the worker begins; undefined: after the last step. */
  readonly stopAt: number | undefined;
  /** Faults, and requests of the kernel, go on while the worker stops. */
  readonly stopsBadly: boolean;
  /** Requests under way at most. */
  readonly most: number;
  /** Probability that a ready worker runs. */
  readonly eager: number;
  /** Share of the changes that make zeros instead of writing. */
  readonly zeroing: number;
  /** Weights of the steps. */
  readonly pace: Readonly<Record<'request' | 'server' | 'network' | 'clock' | 'fault', number>>;
}

/** Developer's switches: excluded faults, and the only allowed faults. */
export interface Limits {
  readonly without: readonly string[];
  readonly only: readonly string[] | undefined;
}

function chooseFaults(random: Random, { without, only }: Limits): Set<Fault> {
  const share = random.oneOf([0.15, 0.3, 0.5]);
  const faults = new Set<Fault>();
  for (const fault of FAULTS) {
    if (LATER_FAULTS.includes(fault)) continue;
    const chosen = random.chance(share);
    if (chosen && !without.includes(fault) && (only === undefined || only.includes(fault))) faults.add(fault);
  }
  return faults;
}

function chooseBlockSizes(random: Random): BlockSizes | undefined {
  const minimum = random.oneOf([1, 1, 512, 512, 4096, 0]);
  const maximum = random.oneOf([8192, 65_536, 1024 * 1024, 32 * 1024 * 1024, 0xffffffff]);
  return minimum === 0 ? undefined : { minimum, preferred: 4096, maximum };
}

/** The part of a profile that came later: other seeds keep their histories. */
function chooseLater(random: Random, faults: Set<Fault>, { without, only }: Limits): Later {
  const mayHave = (fault: Fault): boolean =>
    !without.includes(fault) && (only === undefined || only.includes(fault));
  const isUnreachable = random.chance(0.1);
  if (isUnreachable && mayHave('unreachable') && !faults.has('early ack')) faults.add('unreachable');
  const focus = random.chance(0.2) ? random.oneOf(FOCUSES) : undefined;
  // A focus on losses needs some.
  const loss = random.oneOf(['kill', 'close'] as const);
  const isLosing = focus !== undefined && focus !== 'O_DSYNC';
  if (isLosing && mayHave(loss) && !faults.has('early ack')) faults.add(loss);
  const stopsBadly = random.chance(0.25);
  const stopAt = stopsBadly && random.chance(0.7) ? random.between(20, 600) : undefined;
  const spread = random.chance(0.7);
  return { focus, spread, stopsBadly, stopAt };
}

/** The parts of a profile of a still later date. The seeds of the known defects have none of them. */
function chooseNewest(
  random: Random,
  { allocation, headers }: Pick<Profile, 'allocation' | 'headers'>,
): Pick<Profile, 'stats' | 'wholeReplies'> {
  const stats = random.chance(0.4);
  const wholeReplies = random.chance(0.3);
  return { stats: stats && allocation, wholeReplies: wholeReplies && headers !== 'simple' };
}

type Later = Pick<Profile, 'focus' | 'spread' | 'stopsBadly' | 'stopAt'>;

/** The profile of a seed. */
export function makeProfile(seed: number, limits: Limits): Profile {
  const random = new Random(seed ^ 0x5eed);
  const faults = chooseFaults(random, limits);
  const later = chooseLater(new Random(seed ^ 0x57bde), faults, limits);
  const large = faults.has('early ack') ? 0.3 : random.chance(0.15) ? 0.15 : 0;
  const blockSizes = chooseBlockSizes(random);
  const odd = random.chance(0.2) ? random.between(1, 7) : 0;
  const units = (large > 0 ? 8192 : random.oneOf([128, 512, 2048])) + odd;
  const early = faults.has('early ack');
  const profile: Omit<Profile, 'bulk' | 'stats' | 'wholeReplies'> = {
    ...later,
    seed,
    faults,
    files: random.chance(0.1) ? 2 : 1,
    units,
    blockSizes,
    headers: random.oneOf(['simple', 'structured', 'extended']),
    flush: random.chance(early ? 0.4 : 0.85),
    fua: random.chance(0.6),
    zeroes: random.chance(0.7),
    allocation: random.chance(0.3),
    connections: early ? 1 : random.oneOf([1, 1, 2, 3]),
    cache: random.oneOf(['writeback', 'writethrough', 'none']),
    // A mount that does not reconnect need not keep writes.
    unflushedLimit: faults.has('no reconnecting')
      ? 0
      : random.oneOf([16 * 1024, 64 * 1024 * 1024, 64 * 1024 * 1024]),
    timeout: faults.has('timeout') ? random.oneOf([200, 1000, 5000]) : 0,
    readAhead: random.chance(0.3),
    unixSocket: early || random.chance(0.7),
    knowsPeer: random.chance(0.7),
    settleTime: random.chance(0.3) ? random.oneOf([500, 5000]) : Number.POSITIVE_INFINITY,
    ownServer: !faults.has('successor') && random.chance(0.3),
    // The payload of an early acknowledgement has arrived completely, although the server has not read it.
    room: random.oneOf([early ? 4 * 1024 * 1024 : 600, 8192, 65_536, 4 * 1024 * 1024]),
    inOrder: early || random.chance(0.3),
    hot: Array.from({ length: random.between(1, 3) }, () => random.below(Math.max(1, units - 16))),
    usual: random.oneOf([1, 4, 16]),
    large,
    most: random.oneOf([2, 4, 16]),
    eager: random.oneOf([0.3, 0.6, 0.9]),
    pace: {
      request: random.oneOf([5, 15, 30]),
      server: random.oneOf([10, 30]),
      network: random.oneOf([15, 40]),
      clock: random.oneOf([1, 4]),
      fault: random.oneOf([1, 3, 8]),
    },
    zeroing: random.oneOf([0, 0, 0.5]),
  };
  const remembers = profile.flush && profile.unflushedLimit > 1024 * 1024;
  const bulk = remembers && !early && random.chance(0.15);
  const spread = bulk && later.spread;
  const isUnix = profile.unixSocket && !faults.has('unreachable');
  const newest = chooseNewest(new Random(seed ^ 0x580fc), profile);
  return { ...profile, ...newest, bulk, spread, units: spread ? BULK_UNITS : units, unixSocket: isUnix };
}

/** The bytes [start, end) of each disk that are a file of their own. They need not be aligned to blocks. */
export function partOf({ units }: Profile): { readonly start: number; readonly end: number } {
  return { start: (units >> 2) * UNIT, end: (units - (units >> 3)) * UNIT };
}

/** Bytes of one file of a profile. */
export function sizeOf({ units }: Profile): number {
  return units * UNIT;
}

/** Describes a profile in one line, for the history of a failing seed. */
export function profileText(profile: Profile): string {
  const { faults, files, headers, connections, cache, unflushedLimit, timeout, blockSizes, focus } = profile;
  const flags = (
    [
      ...(['flush', 'fua', 'zeroes', 'allocation', 'stats', 'wholeReplies', 'readAhead', 'inOrder'] as const),
      ...(['bulk', 'spread', 'stopsBadly'] as const),
    ] as const
  ).filter((name) => profile[name]);
  const sizes =
    blockSizes === undefined ? 'no block sizes' : `block sizes ${blockSizes.minimum}/${blockSizes.maximum}`;
  return [
    `${files} file${files > 1 ? 's' : ''} of ${sizeOf(profile)} bytes, ${sizes}, ${headers} headers`,
    `${connections} connection${connections > 1 ? 's' : ''} (${profile.unixSocket ? 'Unix' : 'TCP'}, room ${profile.room})`,
    `cache ${cache}, keep ${unflushedLimit}, timeout ${timeout}, settle time ${profile.settleTime}, ${flags.join(' ')}`,
    `faults: ${[...faults].join(', ') || 'none'}${focus === undefined ? '' : `; focus: ${focus}`}`,
  ].join('; ');
}
