// The bridge's threads, before they have any work: starting them, and ending the worker when there is none.
//
// Apart from bridge.ts so that it can be started before anything else is loaded.

import { Worker } from 'node:worker_threads';

/**
 * A worker that waits for its work. Starting a thread takes longer than most of what a mount needs, so
 * it is worth doing early; if nothing comes of it, `dismissWorker` must end it.
 */
export function spawnWorker(): Worker {
  return new Worker(new URL('./worker.js', import.meta.url));
}

/** A reader that waits for its work. */
export function spawnReadThread(): Worker {
  return new Worker(new URL('./read-thread.js', import.meta.url));
}

/**
 * Ends a worker that got no work; resolves when it is gone. A thread that is ended by force while it
 * loads a native module takes the process with it, and so does leaving the process then.
 */
export function dismissWorker(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    worker.once('exit', () => resolve());
    worker.postMessage(undefined);
  });
}
