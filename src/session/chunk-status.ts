// Follows the state of the chunk server behind a disk, from its start to its end.
//
// Used for the status of a mount, and by the command line for the progress of a first pass.

import type { ChunkStatus, KeptImage } from '../chunks/contract/status.js';
import { watchChunkStatus } from '../chunks/status/watch.js';
import { systemClock } from './clock.js';

/** Milliseconds between two attempts to connect, while the server starts. */
const PAUSE = 50;
/** Attempts: a minute. */
const ATTEMPTS = 1200;

/** Calls `onStatus` for each state. @param path of the control socket @returns a function that ends that */
export function followChunkStatus(
  path: string,
  onStatus: (status: ChunkStatus, kept: KeptImage | undefined) => void,
): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  const follow = async (): Promise<void> => {
    let hasBegun = false;
    for (let attempt = 0; attempt < ATTEMPTS && !hasBegun && !signal.aborted; attempt++) {
      if (attempt > 0) await systemClock.wait(PAUSE, signal);
      const take = (status: ChunkStatus, kept: KeptImage | undefined): void => {
        hasBegun = true;
        if (!signal.aborted) onStatus(status, kept);
      };
      await watchChunkStatus(path, take, signal);
    }
  };
  void follow();
  return () => stop.abort();
}
