// A decode thread: the entry point of a worker thread with several decoders.
//
// It works on the most urgent decoder that has input, a unit at a time, and takes its messages between two units.

import { parentPort } from 'node:worker_threads';
import type { FromThread, ToThread } from './messages.js';
import { ThreadTask } from './thread-task.js';

const port = parentPort;
if (port === null) throw new Error('a decode thread runs as a worker thread only');

const tasks = new Map<number, ThreadTask>();
let isScheduled = false;

const tell = (message: FromThread, transfer: readonly ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer);

function work(): void {
  isScheduled = false;
  let best: ThreadTask | undefined;
  for (const task of tasks.values()) {
    if (task.canStep && (best === undefined || task.priority < best.priority)) best = task;
  }
  if (best === undefined) return;
  best.step();
  schedule();
}

function schedule(): void {
  if (isScheduled) return;
  isScheduled = true;
  setImmediate(work);
}

function open(message: Extract<ToThread, { kind: 'open' }>): void {
  try {
    tasks.set(message.task, new ThreadTask(message, tell));
  } catch (error) {
    // As a library that is not installed.
    const { task, from } = message;
    const text = error instanceof Error ? error.message : String(error);
    tell({
      kind: 'failed',
      task,
      message: text,
      reason: undefined,
      in: from.in,
      out: from.out,
      partial: undefined,
    });
  }
}

port.on('message', (message: ToThread) => {
  if (message.kind === 'open') open(message);
  const task = tasks.get(message.task);
  if (task === undefined) return;
  switch (message.kind) {
    case 'change':
      task.change(message.goal, message.priority);
      break;
    case 'input':
      task.push(message.bytes, message.isLast);
      break;
    case 'close':
      task.close();
      tasks.delete(message.task);
      break;
    default:
  }
  schedule();
});
