// The options of what to keep of an image or server, and of what to fetch ahead. Pure.

import { contradictionOf } from '../../image/contradictions.js';
import type { KeepRequest } from '../../image/keep-request.js';
import { UsageError } from '../errors.js';

/** The values of these options, by commander's names. */
export interface KeepValues {
  readonly cacheFile?: string;
  readonly cacheDir?: string;
  /** Bytes. */
  readonly cacheSize?: number;
  readonly cacheMemory?: number;
  /** Bytes a second; Infinity where no rate is named. */
  readonly prefetch?: number;
  readonly trace?: string;
}

/** Commander's names of the options. */
export const KEEP_OPTIONS: readonly string[] = [
  'cacheFile',
  'cacheDir',
  'cacheSize',
  'cacheMemory',
  'prefetch',
  'trace',
];

/** An option on the command line, from commander's name for it. */
export const dashed = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** The request of these values: which bytes to keep. @throws UsageError when they contradict each other */
export function keepFrom(values: KeepValues): KeepRequest {
  const { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace } = values;
  const empty = Object.entries({ cacheFile, cacheDir, trace }).find(([, value]) => value === '')?.[0];
  if (empty !== undefined) throw new UsageError(`${dashed(empty)} needs a path`);
  const why = contradictionOf(values, dashed);
  if (why !== undefined) throw new UsageError(why);
  return { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace };
}
