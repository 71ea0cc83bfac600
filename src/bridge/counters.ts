// Numbers that the worker counts and everybody may read: doubles in shared memory.
//
// Only the worker writes. A reader sees each number whole, though not all of the same instant.

/** Places of the numbers. Bytes and counts since the start, unless said otherwise. */
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
  spliced: 9,
  prefetched: 10,
  prefetchHits: 11,
  prefetchWaste: 12,
  replays: 13,
  lostConnections: 14,
  /** Bytes remembered that no FLUSH has covered, now. */
  unflushed: 15,
  /** Requests of the kernel under way, now. */
  inFlight: 16,
  /** First of 32 counts of READ latencies: place i counts those below 2^i microseconds. */
  readLatency: 32,
  /** The same of WRITEs. */
  writeLatency: 64,
} as const;

/** How many numbers there are. */
const LENGTH = 96;

/** The name of a single number (not one of a histogram's). */
export type CounterName = keyof typeof COUNTER;

/** Shared memory for a worker's numbers. */
export function makeCounters(): Float64Array<SharedArrayBuffer> {
  return new Float64Array(new SharedArrayBuffer(LENGTH * Float64Array.BYTES_PER_ELEMENT));
}

/** Counts one latency in a histogram that starts at place `first`. */
export function countLatency(counters: Float64Array, first: number, milliseconds: number): void {
  const microseconds = Math.min(milliseconds * 1000, 2 ** 31 - 1);
  counters[first + 32 - Math.clz32(microseconds)]++;
}
