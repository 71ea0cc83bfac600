// Work that is called off when it takes too long.

import { TransportError } from './errors.js';

/**
 * Runs `work` with a signal that is aborted by `signal`, or after so many milliseconds.
 *
 * Not `AbortSignal.timeout` within `AbortSignal.any`, which holds its sources weakly: the garbage collector
 * takes the timeout away, and it never comes (node 20).
 * @param failure what to say then, without the time: `the server did not answer`
 * @throws what `work` rejects with: by the signal's reason a TransportError that tells the time, or the reason
 * of `signal`
 */
export async function withinTime<T>(
  milliseconds: number,
  failure: string,
  signal: AbortSignal | undefined,
  work: (either: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const late = new TransportError(`${failure} within ${milliseconds / 1000} s`);
  const timer = setTimeout(() => limit.abort(late), milliseconds);
  try {
    return await work(signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]));
  } finally {
    clearTimeout(timer);
  }
}
