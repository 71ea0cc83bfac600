// The operations of a case, one after another, chosen by its seed.
//
// Pure; used by actor.ts. An operation stays within its actor's area, so that concurrent actors have the same
// result in any order. The bounds of the areas are not aligned to blocks, so that actors share blocks.

import type { Random } from '../simulate/random.js';
import type { Plan } from './plan.js';

/** The offsets of the parts of a range. */
export interface Range {
  readonly at: number;
  readonly length: number;
}

/** One of the descriptors that an actor has open. */
type OnDescriptor = { readonly descriptor: number };

export type Operation =
  | ({ readonly kind: 'read' | 'seek' | 'advise' | 'syncRange' } & Range & OnDescriptor)
  | ({ readonly kind: 'write'; readonly fill: number } & Range & OnDescriptor)
  | ({ readonly kind: 'punch' | 'zero' | 'zeroKeep' } & Range & OnDescriptor)
  | ({ readonly kind: 'copy'; readonly to: number } & Range & OnDescriptor)
  | ({ readonly kind: 'fsync' | 'fdatasync' | 'reopen' | 'stat' } & OnDescriptor)
  | ({ readonly kind: 'map' } & Range)
  | ({ readonly kind: 'load' | 'msync' } & Range)
  | ({ readonly kind: 'store'; readonly fill: number } & Range)
  | { readonly kind: 'unmap' };

export type Kind = Operation['kind'];

/** Descriptors of an actor: through the cache, O_DIRECT, O_DSYNC; or all of one kind. */
export const DESCRIPTORS = 3;

/** The weight of each kind. */
const WEIGHTS: Readonly<Record<Kind, number>> = {
  read: 30,
  write: 24,
  punch: 3,
  zero: 2,
  zeroKeep: 2,
  copy: 2,
  load: 12,
  store: 10,
  msync: 2,
  map: 2,
  unmap: 1,
  fsync: 1,
  fdatasync: 1,
  syncRange: 1,
  seek: 2,
  advise: 3,
  reopen: 2,
  stat: 1,
};

const MAPPING: readonly Kind[] = ['load', 'store', 'msync', 'map', 'unmap'];
const KERNEL_ONLY: readonly Kind[] = ['punch', 'zero', 'zeroKeep', 'seek'];

/**
 * Whether a change may fail with EIO, so that its program must make it again: fuse-native fails a write whose connection
 * is lost, and newer writes of its bytes until the settle time. A store in a mapping would be lost without a failed call.
 */
export function mustRepeat({ backend, faults }: Plan): boolean {
  return backend === 'fuse-native' && faults !== 'none';
}

/** The kinds that a plan allows, each as often as its weight. */
export function kindsFor(plan: Plan): Kind[] {
  const isBarred = (kind: Kind): boolean =>
    // Direct writes beside a mapping have no defined result, on a local disk either.
    (plan.actors === 'direct' && MAPPING.includes(kind)) ||
    (plan.actors !== 'mixed' && plan.cache === 'none' && MAPPING.includes(kind)) ||
    (plan.backend === 'fuse-native' && KERNEL_ONLY.includes(kind)) ||
    (mustRepeat(plan) && MAPPING.includes(kind));
  return (Object.keys(WEIGHTS) as Kind[]).flatMap((kind) =>
    isBarred(kind) ? [] : Array.from({ length: WEIGHTS[kind] }, () => kind),
  );
}

const PAGE = 4096;

/** Upper bounds of a length, each as likely as its number of entries; occasionally LONGEST is the bound. */
const LENGTHS = [512, 512, 4096, 4096, 16_384, 16_384, 131_072] as const;
const LONGEST = 2_000_000;

/** A range within an area, aligned in half of the cases. */
function rangeIn(area: Range, random: Random): Range {
  const end = area.at + area.length;
  const limit = random.chance(0.01) ? LONGEST : random.oneOf(LENGTHS);
  let at = area.at + random.below(area.length);
  let length = 1 + random.below(Math.min(limit, area.length));
  if (random.chance(0.5)) {
    const unit = random.oneOf([512, PAGE, 65_536]);
    at = Math.max(area.at, at - (at % unit));
    length = Math.ceil(length / unit) * unit;
  }
  return { at, length: Math.min(length, end - at) };
}

/** See the file's head. @param mapping the present mapping */
export function nextOperation(
  kinds: readonly Kind[],
  area: Range,
  mapping: Range | undefined,
  random: Random,
): Operation {
  const kind = random.oneOf(kinds);
  const descriptor = random.below(DESCRIPTORS);
  const range = rangeIn(area, random);
  const fill = random.chance(0.1) ? 0 : 1 + random.below(2 ** 31);
  switch (kind) {
    case 'write':
      return { kind, descriptor, fill, ...range };
    case 'copy': {
      const to = area.at + random.below(area.length - range.length + 1);
      return { kind, descriptor, to, ...range };
    }
    case 'fsync':
    case 'fdatasync':
    case 'reopen':
    case 'stat':
      return { kind, descriptor };
    case 'map':
      return { kind, ...range };
    case 'unmap':
      return { kind };
    case 'load':
    case 'msync':
    case 'store': {
      if (mapping === undefined) return { kind: 'map', ...range };
      const inside = rangeIn(mapping, random);
      return kind === 'store' ? { kind, fill, ...inside } : { kind, ...inside };
    }
    default:
      return { kind, descriptor, ...range };
  }
}

/** The mapping after an operation: whole pages. */
export function mappingAfter(operation: Operation, before: Range | undefined): Range | undefined {
  if (operation.kind === 'unmap') return undefined;
  return operation.kind === 'map' ? pagesOf(operation) : before;
}

/** A range from the beginning of its first page on. */
export function pagesOf({ at, length }: Range): Range {
  const before = at % PAGE;
  return { at: at - before, length: length + before };
}

/** One line for the log. */
export function textOf(operation: Operation): string {
  const { kind, ...rest } = operation;
  return [kind, ...Object.entries(rest).map(([name, value]) => `${name}=${value}`)].join(' ');
}
