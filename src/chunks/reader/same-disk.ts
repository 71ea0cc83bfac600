// Whether the units that are kept are those of their source, where no version tells it: blocks of some are compared.
//
// A source with the same name and size may be another disk at the next mount, or when a lost server has come back: it was
// started with another image, or keeps its disk in memory.

import { createHash } from 'node:crypto';
import type { UnitFile } from '../contract/cache.js';
import type { Input } from '../contract/coding.js';
import { isZero, UNIT } from '../contract/units.js';

/** Compared units at the start of a mount: so many of zeros at most, and so many others. */
const SAMPLES = 4;
/** Bytes that are compared of a unit. */
const BLOCK = 4096;

/** Takes `count` of some things, each with the same chance. */
class Reservoir {
  readonly taken: number[] = [];
  readonly #count: number;
  #seen = 0;

  constructor(count: number) {
    this.#count = count;
  }

  offer(unit: number): void {
    this.#seen += 1;
    const at = this.#seen <= this.#count ? this.#seen - 1 : Math.floor(Math.random() * this.#seen);
    if (at < this.#count) this.taken[at] = unit;
  }
}

/** A place that keeps units: a cache file, or the memory. */
export type KeptUnits = Pick<UnitFile, 'units' | 'read'>;

function samplesOf(kept: KeptUnits, most: number): readonly number[] {
  const [zeros, others] = [new Reservoir(most), new Reservoir(most)];
  for (const { unit, isZero: hasZeros } of kept.units()) (hasZeros ? zeros : others).offer(unit);
  return [...others.taken, ...zeros.taken];
}

/** The first block of a unit that is not all zeros; the first block if all are. */
function tellingBlock(bytes: Uint8Array): number {
  for (let at = 0; at < bytes.length; at += BLOCK) if (!isZero(bytes.subarray(at, at + BLOCK))) return at;
  return 0;
}

async function differs(kept: KeptUnits, input: Pick<Input, 'read'>, unit: number): Promise<boolean> {
  const bytes = await kept.read(unit);
  if (bytes === undefined) return false;
  const at = tellingBlock(bytes);
  const block = bytes.subarray(at, at + BLOCK);
  // Bytes that the source cannot give do not differ.
  const found = await input.read(unit * UNIT + at, block.length).catch(() => block);
  return Buffer.compare(block, found) !== 0;
}

/**
 * Whether the units that are kept are of another disk than `input`, which is not compressed.
 * @param most compared units of zeros, and others
 */
export async function hasOtherBytes(
  kept: KeptUnits,
  input: Pick<Input, 'read'>,
  most = SAMPLES,
): Promise<boolean> {
  const found = await Promise.all(samplesOf(kept, most).map((unit) => differs(kept, input, unit)));
  return found.includes(true);
}

/** Bytes at each end of a compressed file that tell it from others: most formats have checksums there. */
const END = 4096;

/** The version of a compressed file, from its ends. @throws the errors of the input */
export async function versionOfContent(input: Input): Promise<string> {
  const length = Math.min(END, input.size);
  const [head, tail] = await Promise.all([input.read(0, length), input.read(input.size - length, length)]);
  return `sha256=${createHash('sha256').update(head).update(tail).digest('hex')}`;
}
