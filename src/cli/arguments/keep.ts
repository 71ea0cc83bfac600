// The options of what to keep of an image or server, and of what to fetch ahead. Pure.

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

/** The options: commander's names, and the names on the command line. */
export const KEEP_OPTIONS: Readonly<Record<keyof KeepValues, string>> = {
  cacheFile: '--cache-file',
  cacheDir: '--cache-dir',
  cacheSize: '--cache-size',
  cacheMemory: '--cache-memory',
  prefetch: '--prefetch',
  trace: '--trace',
};

/** The request of these values: which bytes to keep. @throws UsageError when they contradict each other */
export function keepFrom(values: KeepValues): KeepRequest {
  const { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace } = values;
  const empty = Object.entries({ cacheFile, cacheDir, trace }).find(([, value]) => value === '')?.[0];
  if (empty !== undefined) throw new UsageError(`${KEEP_OPTIONS[empty as keyof KeepValues]} needs a path`);
  if (cacheFile !== undefined && cacheDir !== undefined)
    throw new UsageError('--cache-file and --cache-dir cannot be used together; see nbdfuse --help');
  if (cacheSize !== undefined && cacheFile === undefined && cacheDir === undefined)
    throw new UsageError('--cache-size needs --cache-file or --cache-dir');
  return { cacheFile, cacheDir, cacheSize, cacheMemory, prefetch, trace };
}
