// Unmounting in order: everything that applications have written goes to the server first.
//
// Called by session.ts when it is told to stop. The backend must be serving all the while: unmounting
// makes the kernel write back what it holds. Never blocks; ends when the deadline does.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { pathThrough } from '../linux/path.js';
import { closeDescriptor } from '../linux/socket.js';
import type { Backend } from './backend/backend.js';
import { Deadline } from './deadline.js';

const EBUSY = 16;
/** The first descriptor of a child behind its standard ones. */
const FIRST_INHERITED = 3;
/** Milliseconds before the deadline that are kept for stopping the backend. */
const RESERVE = 2000;
/** Milliseconds that a lazy unmount may take: it waits for nobody. */
const LAZY_TIME = 1000;

/** How an unmounting went: `late` when the server did not take the writes in time. */
export type UnmountResult = 'unmounted' | 'busy' | 'late';

/** Unmounts. @param files that are served, which are flushed when the mount is in use */
export async function unmountInOrder(
  backend: Pick<Backend, 'unmount' | 'open'>,
  files: readonly number[],
  deadline: Deadline,
): Promise<UnmountResult> {
  const outcome = await deadline.outcomeOf(backend.unmount({ lazy: false }), RESERVE);
  if (outcome.kind === 'done') return 'unmounted';
  let result: UnmountResult = 'late';
  if (outcome.kind === 'failed') {
    if ((outcome.error as { errno?: unknown }).errno !== EBUSY) throw outcome.error;
    result = (await writeOut(backend, files, deadline)) ? 'busy' : 'late';
  }
  await new Deadline(LAZY_TIME).outcomeOf(backend.unmount({ lazy: true }));
  return result;
}

/**
 * fsync(2) of each file; whether all ended in time. By a process of its own, that can be killed: a
 * thread of ours which waits for a server that never answers could not be ended.
 */
async function writeOut(
  backend: Pick<Backend, 'open'>,
  files: readonly number[],
  deadline: Deadline,
): Promise<boolean> {
  const opening = Promise.allSettled(files.map((file) => backend.open(file)));
  const opened = await deadline.outcomeOf(opening, RESERVE);
  if (opened.kind !== 'done') return false;
  const found = opened.value.map((one) => (one.status === 'fulfilled' ? one.value : undefined));
  const descriptors = found.filter((one) => one !== undefined);
  try {
    return (
      (await syncAll(descriptors, deadline)) && opened.value.every(({ status }) => status === 'fulfilled')
    );
  } finally {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
  }
}

async function syncAll(descriptors: readonly number[], deadline: Deadline): Promise<boolean> {
  // Without names, all file systems of the machine would be meant.
  if (descriptors.length === 0) return true;
  const paths = descriptors.map((_, i) => pathThrough(FIRST_INHERITED + i));
  const child = spawn('sync', ['--', ...paths], { stdio: ['ignore', 'ignore', 'ignore', ...descriptors] });
  const outcome = await deadline.outcomeOf(once(child, 'exit'), RESERVE);
  if (outcome.kind === 'late') child.kill('SIGKILL');
  return outcome.kind !== 'late';
}
