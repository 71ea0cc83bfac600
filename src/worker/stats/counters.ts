// The counters of a file: doubles in one array, so that counting allocates nothing.
//
// Owned by the file, updated by its disk, reported by worker/status.ts.

/** Index of each counter: bytes and counts since the start. */
export const COUNTER = {
  reads: 0,
  readBytes: 1,
  writes: 2,
  writtenBytes: 3,
  flushes: 4,
  zeroes: 5,
  /** Error replies of the server. */
  serverErrors: 6,
  socketIn: 7,
  socketOut: 8,
  /** READs that the worker has answered from a cache file. */
  cacheFileReads: 9,
  prefetched: 10,
  prefetchHits: 11,
  prefetchWaste: 12,
  replays: 13,
  lostConnections: 14,
  /** Requests of programs that failed. */
  failedReads: 15,
  failedWrites: 16,
  failedOthers: 17,
  /** Sums of latencies in seconds. */
  readSeconds: 18,
  writeSeconds: 19,
  /** First of LATENCIES counts of READ latencies: element i counts latencies below 2^i microseconds. */
  readLatency: 32,
  /** The same for WRITEs. */
  writeLatency: 64,
} as const;

/** Number of elements. */
const LENGTH = 96;

/** Number of elements of a latency histogram. */
export const LATENCIES = 32;

/** The latency in microseconds below which a share (0 to 1) of the requests was answered; 0 without requests. */
export function percentile(histogram: readonly number[], share: number): number {
  const wanted = histogram.reduce((sum, count) => sum + count, 0) * share;
  let sum = 0;
  for (let i = 0; i < histogram.length; i++) {
    sum += histogram[i];
    if (sum > 0 && sum >= wanted) return 2 ** i;
  }
  return 0;
}

/** Bytes received from and sent to the server. */
export function moved(counters: Float64Array): number {
  return counters[COUNTER.socketIn] + counters[COUNTER.socketOut];
}

/** Creates the counters of a file, all 0. */
export function makeCounters(): Float64Array {
  return new Float64Array(LENGTH);
}

/** Counts one latency in the histogram that starts at index `first`, and in the sum at index `sum`. */
export function countLatency(counters: Float64Array, first: number, sum: number, milliseconds: number): void {
  counters[sum] += milliseconds / 1000;
  const microseconds = Math.min(milliseconds * 1000, 2 ** 31 - 1);
  counters[first + LATENCIES - Math.clz32(microseconds)]++;
}
