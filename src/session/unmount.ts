// Orderly unmount: everything that programs have written goes to the server first.
//
// Called by session.ts when a signal stops it. The backend must keep serving: the kernel writes out its cache while the
// last programs close the file. Never blocks; ends by the deadline.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { EBUSY } from '../constants/errno.js';
import { pathThrough } from '../linux/path.js';
import { closeDescriptor } from '../linux/socket.js';
import type { Backend } from './backend/backend.js';
import { Deadline, type Outcome } from './deadline.js';

/** The first descriptor of a child after its standard ones. */
const FIRST_INHERITED = 3;
/** Milliseconds before the deadline that are reserved for stopping the backend. */
const RESERVE = 2000;
/** Milliseconds that a lazy unmount may take: it waits for nothing. */
const LAZY_TIME = 1000;

/**
 * The result of an unmount: `busy` when the files are still in use, here or in another mount namespace; `late` when the
 * server did not accept the writes in time; `unreachable` when the files could not be opened to write them out.
 */
export type UnmountResult = 'unmounted' | 'busy' | 'late' | 'unreachable';

/** The parts of a backend that an unmount needs. */
type Unmountable = Pick<Backend, 'unmount' | 'open' | 'otherPlaces'>;

/** Unmounts. @param files the served files, which are flushed when the mount is in use */
export async function unmountInOrder(
  backend: Unmountable,
  files: readonly number[],
  deadline: Deadline,
): Promise<UnmountResult> {
  const places = backend.otherPlaces();
  const unmount = (): Promise<Outcome<void>> => deadline.outcomeOf(backend.unmount({ lazy: false }), RESERVE);
  let outcome = await unmount();
  let result: UnmountResult = 'late';
  if (outcome.kind === 'failed') {
    if ((outcome.error as { errno?: unknown }).errno !== EBUSY) throw outcome.error;
    result = await writeOut(backend, files, deadline);
    // Its last user may have left, or somebody else unmounted it.
    if (result === 'unreachable') outcome = await unmount();
  }
  if (outcome.kind === 'done') return writeOutElsewhere(backend, places, files, deadline);
  await new Deadline(LAZY_TIME).outcomeOf(backend.unmount({ lazy: true }));
  return result;
}

/**
 * Writes out, through another place of the mount, what programs there have written: the kernel does it at the
 * last unmount only. A place may go at any moment, with the container that it belongs to.
 */
async function writeOutElsewhere(
  backend: Unmountable,
  places: ReturnType<Unmountable['otherPlaces']>,
  files: readonly number[],
  deadline: Deadline,
): Promise<UnmountResult> {
  const tried = new Set<number>();
  for (;;) {
    const left = places.left();
    const place = left.find(({ id }) => !tried.has(id));
    if (place === undefined) return left.length === 0 ? 'unmounted' : 'unreachable';
    tried.add(place.id);
    const result = await writeOut({ open: (file) => backend.open(file, place) }, files, deadline);
    if (result !== 'unreachable') return result;
  }
}

/**
 * Calls fsync(2) on each file. A child process does it, which can be killed: a thread of ours that waits for a server
 * which never answers could not be ended.
 */
async function writeOut(
  backend: Pick<Backend, 'open'>,
  files: readonly number[],
  deadline: Deadline,
): Promise<'busy' | 'late' | 'unreachable'> {
  const opening = Promise.allSettled(files.map((file) => backend.open(file)));
  const opened = await deadline.outcomeOf(opening, RESERVE);
  if (opened.kind !== 'done') return 'late';
  const found = opened.value.map((one) => (one.status === 'fulfilled' ? one.value : undefined));
  const descriptors = found.filter((one) => one !== undefined);
  try {
    if (!(await syncAll(descriptors, deadline))) return 'late';
    return opened.value.every(({ status }) => status === 'fulfilled') ? 'busy' : 'unreachable';
  } finally {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
  }
}

async function syncAll(descriptors: readonly number[], deadline: Deadline): Promise<boolean> {
  // Without arguments, sync(1) would sync all file systems of the machine.
  if (descriptors.length === 0) return true;
  const paths = descriptors.map((_, i) => pathThrough(FIRST_INHERITED + i));
  const child = spawn('sync', ['--', ...paths], { stdio: ['ignore', 'ignore', 'ignore', ...descriptors] });
  const outcome = await deadline.outcomeOf(once(child, 'exit'), RESERVE);
  if (outcome.kind === 'late') child.kill('SIGKILL');
  return outcome.kind !== 'late';
}
