// Decodes whole files for tests, with any sizes of pushes and pulls, and compresses by the real programs.

import { readFile, writeFile } from 'node:fs/promises';
import { DecodeError, type Decoder, type RestartPoint, START } from '../../../src/chunks/contract/coding.js';
import { runShell } from '../run/command.js';
import { Scope } from '../run/scope.js';

/** How a file is pushed and pulled; each size is used in turn. */
export interface Cuts {
  readonly pushes?: readonly number[];
  readonly pulls?: readonly number[];
}

export interface Decoded {
  readonly bytes: Buffer;
  readonly points: readonly RestartPoint[];
  /** Decoded bytes that the decoder vouches for. */
  readonly verified: number;
  readonly warning: string | undefined;
  /** Why it stopped before the end. */
  readonly failure: DecodeError | undefined;
}

function* cycle(sizes: readonly number[]): Generator<number, never> {
  for (;;) yield* sizes;
}

/** Decodes a file from the decoder's start to its end or damage. Closes the decoder. @throws Error if a rule is broken */
export function decodeAll(
  decoder: Decoder,
  file: Uint8Array,
  { pushes = [65536], pulls = [65536] }: Cuts = {},
): Decoded {
  const [start, parts, points] = [decoder.out, [] as Buffer[], [] as RestartPoint[]];
  const [pushSize, pullSize] = [cycle(pushes), cycle(pulls)];
  let verified = decoder.verified;
  let length = 0;
  let isLast = false;
  let failure: DecodeError | undefined;
  try {
    while (!decoder.ended) {
      const output = Buffer.allocUnsafe(pullSize.next().value);
      const made = decoder.pull(output);
      if (made > 0) parts.push(output.subarray(0, made));
      length += made;
      points.push(...decoder.takePoints());
      if (decoder.out !== start + length) throw new Error(`out is ${decoder.out}, not ${start + length}`);
      if (decoder.verified < verified || decoder.verified > decoder.out) {
        throw new Error(`verified is ${decoder.verified} after ${verified}, of ${decoder.out}`);
      }
      verified = decoder.verified;
      if (made < output.length && !decoder.ended && !isLast) {
        const end = Math.min(decoder.wanted + pushSize.next().value, file.length);
        isLast = end === file.length;
        decoder.push(file.subarray(decoder.wanted, end), isLast);
      }
    }
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    failure = error;
  } finally {
    decoder.close();
  }
  return { bytes: Buffer.concat(parts), points, verified, warning: decoder.warning, failure };
}

/** Bytes that compress to about a third, the same for each seed. */
export function sampleBytes(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2654435761 + 1;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
  for (let at = 0; at < length; ) {
    const run = 1 + (next() % 40);
    const back = at > 0 && next() % 4 !== 0 ? 1 + (next() % Math.min(at, 5000)) : 0;
    for (let end = Math.min(length, at + run); at < end; at++) {
      bytes[at] = back > 0 ? bytes[at - back] : next() & 0xff;
    }
  }
  return bytes;
}

/** Makes a decoder that starts at a point. */
export type CreateDecoder = (from: RestartPoint, spacing: number) => Decoder;

/**
 * Decodes a file, which must give `plain`, and again from each restart point to the end.
 * @returns the decoded offsets of the points. @throws Error
 */
export function decodeFromEverywhere(create: CreateDecoder, file: Uint8Array, plain: Uint8Array): number[] {
  const { points } = decodeRight(create, START, file, plain);
  for (const point of points) decodeRight(create, point, file, plain);
  return points.map(({ out }) => out);
}

function decodeRight(
  create: CreateDecoder,
  from: RestartPoint,
  file: Uint8Array,
  plain: Uint8Array,
): Decoded {
  const result = decodeAll(create(from, 1), file);
  if (result.failure !== undefined) throw new Error(`from ${from.out}: ${result.failure.message}`);
  if (!result.bytes.equals(plain.subarray(from.out))) throw new Error(`wrong bytes from ${from.out}`);
  if (result.verified !== plain.length)
    throw new Error(`from ${from.out}: verified to ${result.verified} only`);
  return result;
}

/** The output of a line of shell that reads the file $1, with `bytes`, and writes the file $2. */
export async function throughShell(line: string, bytes: Uint8Array): Promise<Buffer> {
  const scope = new Scope();
  try {
    const [input, output] = [scope.path('input'), scope.path('output')];
    await writeFile(input, bytes);
    await runShell(line, 'sh', input, output);
    return await readFile(output);
  } finally {
    await scope.close();
  }
}
