// The choices of a seed that hold for all of its history.

import { UNIT } from '../../../src/chunks/contract/units.js';
import { Random } from '../random.js';
import { ALL_KINDS, type Kind } from './content.js';

/** Damage of a compressed file. */
export interface Damage {
  readonly how: 'cut' | 'flip';
  /** The place, as a part of the file. */
  readonly at: number;
}

export interface Profile {
  readonly seed: number;
  /** Undefined: the file is not compressed. */
  readonly kind: Kind | undefined;
  readonly isWritable: boolean;
  readonly damage: Damage | undefined;
  /** Bytes of units in memory. */
  readonly memory: number;
  /** Undefined: there is no cache file. */
  readonly cache: { readonly limit: number | undefined } | undefined;
  /** See StoreOptions. */
  readonly quietMs: number;
  readonly prefetch: { readonly rate: number | undefined } | undefined;
  /** Reads of the source at the same time. */
  readonly parallel: number;
  readonly threads: number;
  readonly sessions: number;
  /** Steps of a session. */
  readonly steps: number;
  /** Requests at the same time, at most. */
  readonly depth: number;
  readonly faults: {
    /** The source is lost and comes back. */
    readonly losses: boolean;
    /** Single reads of the source fail. */
    readonly errors: boolean;
    /** The disk of the cache file becomes full. */
    readonly fullDisk: boolean;
    /** The disk of the cache file fails. */
    readonly badDisk: boolean;
    /** The source has another image at the next start. */
    readonly otherImage: boolean;
    /** The server below loses, at its end, changes that no FLUSH has covered. */
    readonly volatile: boolean;
    /** The server below, which is only read, may come back with another disk of the same size. */
    readonly otherDisk: boolean;
  };
}

export function makeProfile(seed: number): Profile {
  const random = new Random(seed);
  const { faults, ...profile } = firstChoices(seed, random);
  const volatile = profile.isWritable && random.chance(0.6);
  const otherDisk = profile.kind === undefined && !profile.isWritable && random.chance(0.7);
  const losses = faults.losses || otherDisk;
  return { ...profile, faults: { ...faults, losses, volatile, otherDisk } };
}

type FirstChoices = Omit<Profile, 'faults'> & {
  readonly faults: Omit<Profile['faults'], 'volatile' | 'otherDisk'>;
};

/** The choices of older simulators, which a seed still makes. */
function firstChoices(seed: number, random: Random): FirstChoices {
  const kind = random.chance(0.6) ? random.oneOf(ALL_KINDS) : undefined;
  const isDamaged = kind !== undefined && random.chance(0.2);
  const hasCache = random.chance(0.8);
  return {
    seed,
    kind,
    isWritable: kind === undefined && random.chance(0.8),
    damage: isDamaged ? { how: kind === 'xz blocks' ? 'flip' : 'cut', at: random.next() } : undefined,
    memory: random.between(2, 10) * UNIT + random.below(UNIT),
    cache: hasCache ? { limit: random.chance(0.3) ? random.between(2, 9) * UNIT : undefined } : undefined,
    prefetch: random.chance(0.4)
      ? { rate: random.chance(0.3) ? random.between(1, 40) * UNIT : undefined }
      : undefined,
    parallel: random.between(1, 6),
    threads: random.between(1, 3),
    sessions: hasCache ? random.between(1, 3) : 1,
    steps: random.between(30, 250),
    depth: random.between(1, 8),
    faults: {
      losses: random.chance(0.3),
      errors: random.chance(0.2),
      fullDisk: random.chance(0.15),
      badDisk: random.chance(0.1),
      otherImage: random.chance(0.2),
    },
    quietMs: random.chance(0.6) ? 0 : 10_000,
  };
}
