// Cancels work that takes too long.

import { TransportError } from './errors.js';

/**
 * Runs `work` with a signal that is aborted by `signal`, or after so many milliseconds.
 *
 * Not `AbortSignal.timeout` within `AbortSignal.any`, which has only weak references to its sources: the garbage
 * collector frees the timeout, and it never fires (Node 20).
 * @param failure the message, without the time: `the server did not answer`
 * @throws the rejection of `work`: a TransportError that names the time, or the reason of `signal`
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
