// The decode threads, as the reader sees them.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { FromThread, ThreadData, ToThread } from './messages.js';

/** Most threads: more would only wait for the memory. */
const MAX_THREADS = 16;

/** The number of decode threads of this machine. */
const threadCount = (): number => Math.min(availableParallelism(), MAX_THREADS);

/** Hands tasks to the threads. */
export interface DecodePool {
  readonly threads: number;
  /** The message of a task's life; `open` comes first. */
  send(message: ToThread, transfer?: readonly ArrayBuffer[]): void;
  close(): Promise<void>;
}

/** Starts the threads. @param onMessage takes their messages */
export type StartPool = (onMessage: (message: FromThread) => void) => DecodePool;

interface Thread {
  readonly worker: Worker;
  readonly tasks: Set<number>;
}

/** The error of a thread is one of this process. */
function die(error: Error): never {
  throw error;
}

/** A program in memory: see src/launch. */
export interface ThreadProgram {
  readonly code: string;
  readonly workerData: ThreadData;
}

/** Starts threads when they are needed. @param program decode-thread.ts */
export function startDecodePool(
  program: ThreadProgram,
  onMessage: (message: FromThread) => void,
): DecodePool {
  const threads: Thread[] = [];
  const owners = new Map<number, Thread>();
  const most = threadCount();

  function start(): Thread {
    const worker = new Worker(program.code, { eval: true, workerData: program.workerData });
    worker.on('message', onMessage);
    worker.on('error', die);
    const thread = { worker, tasks: new Set<number>() };
    threads.push(thread);
    return thread;
  }

  /** An idle thread, a new one, or the one with the fewest tasks. */
  function choose(): Thread {
    const least = threads.reduce<Thread | undefined>(
      (best, thread) => (best === undefined || thread.tasks.size < best.tasks.size ? thread : best),
      undefined,
    );
    if (least !== undefined && (least.tasks.size === 0 || threads.length === most)) return least;
    return start();
  }

  function send(message: ToThread, transfer: readonly ArrayBuffer[] = []): void {
    if (message.kind === 'open') {
      const chosen = choose();
      chosen.tasks.add(message.task);
      owners.set(message.task, chosen);
    }
    const owner = owners.get(message.task);
    if (owner === undefined) return;
    owner.worker.postMessage(message, transfer);
    if (message.kind !== 'close') return;
    owner.tasks.delete(message.task);
    owners.delete(message.task);
  }

  async function close(): Promise<void> {
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  return { threads: most, send, close };
}
