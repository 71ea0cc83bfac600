// The setting of a case: a configuration of nbdfuse, its server, and the faults, chosen by a seed.
//
// Pure. A seed repeats a case; a pin (`--case cache=none,actors=3`) replaces a choice of the seed.

import { Random } from '../simulate/random.js';

const CHOICES = {
  cache: ['writeback', 'writethrough', 'none'],
  backend: ['kernel', 'kernel', 'kernel', 'kernel', 'kernel', 'fuse-native'],
  connections: ['1', '4'],
  way: ['unix', 'tcp', 'tls'],
  server: ['file', 'volatile', 'minimum-512', 'minimum-4096', 'minimum-65536', 'remote', 'qemu-nbd'],
  /** `mixed`: one process with all kinds; the others: three processes side by side with this one kind. */
  actors: ['mixed', 'mixed', 'cached', 'direct'],
  faults: ['none', 'cuts', 'cuts', 'kills', 'kills', 'freezes'],
  /** Threads that serve the file: one worker, the others are read threads. */
  threads: ['1', '3'],
  /** A cache file, with the chunk server before the server; `small`: it and its memory keep a part of the disk. */
  keep: ['nothing', 'nothing', 'cache-file', 'small'],
} as const;

/** The dimensions in the order in which they are chosen and shown. */
export const DIMENSIONS = Object.keys(CHOICES) as Dimension[];

export type Dimension = keyof typeof CHOICES;
export type Setup = { readonly [D in Dimension]: (typeof CHOICES)[D][number] };
export type Pins = Readonly<Partial<Record<Dimension, string>>>;

/** A case. */
export interface Plan extends Setup {
  readonly seed: number;
  /** Bytes of the disk. */
  readonly size: number;
}

/** Former values, which `--case` still takes. */
const FORMER: Readonly<Record<string, string>> = { 'server=far': 'remote' };

/** Bytes of a disk, before the odd remainder is added. */
const SIZE = 6 * 1024 * 1024;

/** As many times that size has a disk of which the cache file keeps a part. */
const LARGER = 4;

/** Parses `DIMENSION=VALUE,…`. @throws Error that names the possible values */
export function parsePins(text: string): Pins {
  const pins: Partial<Record<Dimension, string>> = {};
  for (const pair of text.split(',').filter((one) => one !== '')) {
    const [name, given] = pair.split('=');
    const value = FORMER[pair] ?? given;
    const dimension = DIMENSIONS.find((one) => one === name);
    if (dimension === undefined) throw new Error(`no ${name} among ${DIMENSIONS.join(', ')}`);
    const choices: readonly string[] = CHOICES[dimension];
    if (!choices.includes(value)) throw new Error(`${name} is one of ${choices.join(', ')}`);
    pins[dimension] = value;
  }
  return pins;
}

/** Bytes by which the size exceeds a round number: as odd as the server allows. */
function excess(server: Setup['server'], random: Random): number {
  const [, minimum] = server.split('minimum-');
  const unit = server === 'qemu-nbd' ? 512 : Number(minimum ?? 1);
  return unit * random.between(0, Math.max(1, Math.floor(65_535 / unit)));
}

/** Fits a choice to the other choices. */
function allowed(setup: Setup): Setup {
  if (setup.backend === 'kernel') return setup;
  // It has no cache modes, one connection and one thread, and does not send forgotten writes again.
  const server = setup.server === 'volatile' ? 'file' : setup.server;
  return { ...setup, cache: 'writethrough', connections: '1', threads: '1', server, keep: 'nothing' };
}

/**
 * The number at which the draws of later dimensions begin, so that they do not change the earlier draws of a
 * seed.
 */
const LATER: Readonly<Partial<Record<Dimension, number>>> = { threads: 0x7468_7264, keep: 0x6b65_6570 };

/** The case of a seed. */
export function planOf(seed: number, pins: Pins): Plan {
  const random = new Random(seed);
  const draw = (name: Dimension): string => {
    const later = LATER[name];
    return (later === undefined ? random : new Random(seed ^ later)).oneOf<string>(CHOICES[name]);
  };
  const chosen = Object.fromEntries(
    // Every dimension is drawn, pinned or not, so that a pin changes nothing else.
    DIMENSIONS.map((name) => [name, draw(name)]).map(([name, drawn]) => [
      name,
      pins[name as Dimension] ?? drawn,
    ]),
  ) as unknown as Setup;
  const setup = allowed(chosen);
  const size = setup.keep === 'small' ? LARGER * SIZE : SIZE;
  return { seed, size: size + excess(setup.server, random), ...setup };
}

/** A case as text for `--case`. */
export function describe(plan: Setup): string {
  return DIMENSIONS.map((name) => `${name}=${plan[name]}`).join(',');
}
