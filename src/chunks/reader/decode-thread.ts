// A decode thread: the entry point of a worker thread with several decoders.
//
// It works on the most urgent decoder that has input, a unit at a time, and takes its messages between two units.

import { parentPort, workerData } from 'node:worker_threads';
import { useLiblzma } from '../decode/liblzma.js';
import type { ThreadData, ToThread } from './messages.js';
import { ThreadTasks } from './thread-tasks.js';

const port = parentPort;
if (port === null) throw new Error('a decode thread runs as a worker thread only');

const { liblzma } = workerData as ThreadData;
if (liblzma !== undefined) useLiblzma(liblzma);

const tasks = new ThreadTasks((message, transfer = []) => port.postMessage(message, transfer));
let isScheduled = false;

function work(): void {
  isScheduled = false;
  if (tasks.step()) schedule();
}

function schedule(): void {
  if (isScheduled) return;
  isScheduled = true;
  setImmediate(work);
}

port.on('message', (message: ToThread) => {
  tasks.take(message);
  schedule();
});
