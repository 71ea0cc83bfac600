// Drives decoders in tests: whole files, parts, restarts and damage.

import { execFileSync } from 'node:child_process';
import { expect } from 'vitest';
import {
  DecodeError,
  type Decoder,
  type RestartPoint,
  START,
} from '../../../../src/chunks/contract/coding.js';
import { requireProgram } from '../../../support/run/requires.js';

/** Makes a decoder. */
export type Make = (from: RestartPoint, spacing: number) => Decoder;

/** The outcome of decoding a file. */
export interface Decoded {
  readonly bytes: Buffer;
  readonly verified: number;
  readonly points: readonly RestartPoint[];
  readonly warning: string | undefined;
  readonly error: DecodeError | undefined;
}

export interface DecodeOptions {
  readonly from?: RestartPoint;
  readonly spacing?: number;
  /** Bytes of a push and of a pull. */
  readonly push?: number;
  readonly pull?: number;
}

/** Decodes a file in parts. */
export function decode(make: Make, file: Uint8Array, options: DecodeOptions = {}): Decoded {
  const { from = START, spacing = Number.MAX_SAFE_INTEGER, push = 64 * 1024, pull = 256 * 1024 } = options;
  const decoder = make(from, spacing);
  const parts: Buffer[] = [];
  const points: RestartPoint[] = [];
  let verified = from.out;
  let error: DecodeError | undefined;
  try {
    let output = new Uint8Array(new ArrayBuffer(pull));
    while (!decoder.ended) {
      if (parts.length > 0) output = new Uint8Array(new ArrayBuffer(pull));
      const count = decoder.pull(output);
      if (count > 0) parts.push(Buffer.from(output.subarray(0, count)));
      points.push(...decoder.takePoints());
      verified = decoder.verified;
      if (count === pull || decoder.ended) continue;
      const at = decoder.wanted;
      const piece = Uint8Array.from(file.subarray(at, at + push));
      decoder.push(piece, at + piece.length >= file.length);
    }
    verified = decoder.verified;
  } catch (thrown) {
    if (!(thrown instanceof DecodeError)) throw thrown;
    error = thrown;
  } finally {
    decoder.close();
  }
  return { bytes: Buffer.concat(parts), verified, points, warning: decoder.warning, error };
}

/** Runs a compressor, or its opposite, on bytes. */
export const pack = (bytes: Uint8Array, program: string, ...args: readonly string[]): Buffer =>
  execFileSync(requireProgram(program), args, {
    input: bytes,
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'ignore'],
  });

/** Bytes that are partly text and partly noise, the same for the same seed. */
export function sample(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[at] = (at >> 12) % 3 === 0 ? state >>> 24 : 97 + ((at * 7) % ((state >>> 30) + 2));
  }
  return bytes;
}

/** Every point of a file must give the rest of the image. */
export function checkPoints(make: Make, file: Uint8Array, image: Buffer, spacing: number): number {
  const { points, error } = decode(make, file, { spacing });
  expect(error).toBeUndefined();
  for (const point of points) {
    const rest = decode(make, file, { from: point });
    expect(rest.error).toBeUndefined();
    expect(rest.bytes.equals(image.subarray(point.out)), `from ${point.out}`).toBe(true);
    expect(rest.verified).toBe(image.length);
  }
  return points.length;
}

/** Damage must be found, and no wrong byte may count as verified. */
export function checkDamage(make: Make, file: Buffer, image: Buffer, count: number): void {
  for (let i = 0; i < count; i++) {
    const damaged = Buffer.from(file);
    const at = Math.floor((i * file.length) / count);
    damaged[at] ^= 1 << (i % 8);
    const { bytes, verified } = decode(make, damaged);
    expect(bytes.subarray(0, verified).equals(image.subarray(0, verified)), `byte ${at}`).toBe(true);
  }
}

/** A file that is cut anywhere must end with an error, behind right bytes. */
export function checkCuts(make: Make, file: Buffer, image: Buffer, count: number): void {
  for (let i = 0; i < count; i++) {
    const { bytes, error } = decode(make, file.subarray(0, Math.floor((i * file.length) / count)));
    expect(error?.reason).toBe('truncated');
    expect(bytes.equals(image.subarray(0, bytes.length))).toBe(true);
    expect(error?.out).toBe(bytes.length);
  }
}
