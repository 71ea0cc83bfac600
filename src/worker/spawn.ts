// Starts the worker's threads before there is work for them, and ends the worker if there is none.
//
// A file of its own, so that the thread starts before anything else is loaded.

import { Worker } from 'node:worker_threads';
import type { Call } from './contract/call.js';
import type { ToIdleThread } from './contract/messages.js';

const DISMISS: Call<ToIdleThread<never>> = ['dismiss'];

/**
 * Starts a worker thread, which waits for its work. Starting a thread is slow, so call this early. If there is no
 * mount in the end, `dismissWorker` must end the thread.
 */
export function spawnWorker(): Worker {
  return spawnThread(new URL('./worker.js', import.meta.url));
}

/** Starts a read thread, which waits for its work. */
export function spawnReadThread(): Worker {
  return spawnThread(new URL('./read-thread.js', import.meta.url));
}

/** Its errors are ignored until somebody listens for them: `whenLoaded` reports a thread that has ended. */
function spawnThread(file: URL): Worker {
  return new Worker(file).on('error', () => undefined);
}

/** Whether a thread has ended, or could not start. */
const hasEnded = ({ threadId }: Worker): boolean => threadId < 0;

const REPORT: Call<ToIdleThread<never>> = ['report'];

/**
 * Resolves when an idle thread has loaded everything: from then on a mount may cover the program. A later error of the
 * idle thread is ignored. @throws Error when it cannot be loaded
 */
export function whenLoaded(thread: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    if (hasEnded(thread)) reject(new Error('the worker thread could not be started'));
    thread.once('message', () => resolve());
    thread.on('error', reject);
    thread.once('exit', () => reject(new Error('the thread ended while it was loaded')));
    thread.postMessage(REPORT);
  });
}

/**
 * Ends a worker that got no work; resolves when it has ended. Terminating a thread while it loads a native module
 * crashes the process, and so does exiting the process at that moment.
 */
export function dismissWorker(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    if (hasEnded(worker)) resolve();
    worker.once('exit', () => resolve());
    worker.postMessage(DISMISS);
  });
}
