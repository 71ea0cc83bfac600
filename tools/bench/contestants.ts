// The contestants of a case: the sides, mounted on one server, and the limit, which is fio on the server
// itself. Each can run the case's job for a time and report its cost.

import type { Scope } from '../../test/support/run/scope.js';
import type { Case } from './cases.js';
import { canReachServers, type FioRunner, fioOnFile, fioOnServer } from './fio.js';
import { cpuSeconds, openFuseToAll, peakMiB } from './processes.js';
import type { Target } from './servers.js';
import { type Mounted, mount, mountImage, PEER, type Side } from './sides.js';

/** The result of a round. */
export interface Round {
  /** Bytes a second. */
  readonly bandwidth: number;
  /** CPU seconds that the mount's process took for a GiB; undefined for the limit. */
  readonly cpuPerGiB: number | undefined;
}

export interface Contestant {
  readonly name: string;
  play(seconds: number): Promise<Round>;
  /** Most resident memory until now. */
  peakMiB(): number | undefined;
  end(): Promise<void>;
}

/** The name in the table besides those of the sides. */
export const LIMIT = 'limit';

function mountedContestant(name: string, mounted: Mounted, one: Case, runner: FioRunner): Contestant {
  return {
    name,
    async play(seconds) {
      const before = cpuSeconds(mounted.pid);
      const { bandwidth, bytes } = await fioOnFile(mounted.file, { runtime: seconds, ...one.job }, runner);
      return { bandwidth, cpuPerGiB: (cpuSeconds(mounted.pid) - before) / (bytes / 2 ** 30) };
    },
    peakMiB: () => peakMiB(mounted.pid),
    end: () => mounted.unmount(),
  };
}

function limit({ uri }: Target, one: Case, runner: FioRunner): Contestant {
  return {
    name: LIMIT,
    async play(seconds) {
      const { bandwidth } = await fioOnServer(uri, { runtime: seconds, ...one.job }, runner);
      return { bandwidth, cpuPerGiB: undefined };
    },
    peakMiB: () => undefined,
    end: async () => undefined,
  };
}

/** The sides to omit, and the sides besides C nbdfuse. */
export interface Field {
  readonly ours: Side;
  /** Omitted if it cannot mount; undefined: not selected. */
  readonly native: Side | undefined;
  /** Other versions of C nbdfuse. */
  readonly peers: readonly Side[];
  /** qemu-storage-daemon, and other versions of it. */
  readonly daemons: readonly Side[];
}

/** Mounts all sides: nbdfuse first, then the peer of the bar. */
export async function gather(
  scope: Scope,
  one: Case,
  { ours, native, peers, daemons }: Field,
  target: Target,
): Promise<Contestant[]> {
  const asNobody = one.asNobody === true;
  if (asNobody) openFuseToAll(scope);
  const runner: FioRunner = { scope, asNobody, environment: target.environment };
  const found: Contestant[] = [];
  for (const side of [ours, PEER, ...peers]) {
    found.push(mountedContestant(side.name, await mount(scope, side, target, asNobody), one, runner));
  }
  const { image } = target;
  if (image !== undefined) {
    for (const daemon of daemons) {
      found.push(mountedContestant(daemon.name, await mountImage(scope, daemon, image), one, runner));
    }
  }
  // The case of a normal user is about the kernel's limits, which fuse-native shares.
  if (native !== undefined && !asNobody) {
    try {
      const mounted = await mount(scope, native, target);
      found.push(mountedContestant(native.name, mounted, one, runner));
    } catch (error) {
      console.error(`${native.name} is left out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (one.noLimit !== true && canReachServers()) found.push(limit(target, one, runner));
  return found;
}
