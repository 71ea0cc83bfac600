// Numbers that are counted of a file as it is served: doubles in one array, so that counting allocates nothing.
//
// Owned by the file, and counted on by its disk. They are told by status.ts, when somebody asks.

/** Places of the numbers: bytes and counts since the start. */
export const COUNTER = {
  reads: 0,
  readBytes: 1,
  writes: 2,
  writtenBytes: 3,
  flushes: 4,
  zeroes: 5,
  errors: 6,
  socketIn: 7,
  socketOut: 8,
  prefetched: 10,
  prefetchHits: 11,
  prefetchWaste: 12,
  replays: 13,
  lostConnections: 14,
  /** First of LATENCIES counts of READ latencies: place i counts those below 2^i microseconds. */
  readLatency: 32,
  /** The same of WRITEs. */
  writeLatency: 64,
} as const;

/** How many numbers there are. */
const LENGTH = 96;

/** Places in one histogram of latencies. */
export const LATENCIES = 32;

/** Microseconds within which a share (0 to 1) of a histogram's requests was answered; 0 without any. */
export function percentile(histogram: readonly number[], share: number): number {
  const wanted = histogram.reduce((sum, count) => sum + count, 0) * share;
  let sum = 0;
  for (let i = 0; i < histogram.length; i++) {
    sum += histogram[i];
    if (sum > 0 && sum >= wanted) return 2 ** i;
  }
  return 0;
}

/** Bytes that have been moved to and from the server. */
export function moved(counters: Float64Array): number {
  return counters[COUNTER.socketIn] + counters[COUNTER.socketOut];
}

/** A file's numbers, all 0. */
export function makeCounters(): Float64Array {
  return new Float64Array(LENGTH);
}

/** Counts one latency in a histogram that starts at place `first`. */
export function countLatency(counters: Float64Array, first: number, milliseconds: number): void {
  const microseconds = Math.min(milliseconds * 1000, 2 ** 31 - 1);
  counters[first + LATENCIES - Math.clz32(microseconds)]++;
}
