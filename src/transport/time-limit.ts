// Cancels work that takes too long.

import { TransportError } from './errors.js';

/**
 * Runs `work` with a signal that is aborted by `signal`, or after so many milliseconds without progress.
 *
 * Not `AbortSignal.timeout` within `AbortSignal.any`, which has only weak references to its sources: the garbage
 * collector frees the timeout, and it never fires (Node 20).
 * @param failure the message, without the time: `the server did not answer`
 * @param progress a number that changes while the work goes on; undefined: there is only the time
 * @throws the rejection of `work`: a TransportError that names the time, or the reason of `signal`
 */
export async function withinTime<T>(
  milliseconds: number,
  failure: string,
  signal: AbortSignal | undefined,
  work: (either: AbortSignal) => Promise<T>,
  progress?: () => number | undefined,
): Promise<T> {
  const limit = new AbortController();
  const late = new TransportError(`${failure} within ${milliseconds / 1000} s`);
  let last = progress?.();
  const timer = setTimeout(() => {
    const now = progress?.();
    if (now === last) limit.abort(late);
    else timer.refresh();
    last = now;
  }, milliseconds);
  try {
    return await work(signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]));
  } finally {
    clearTimeout(timer);
  }
}
