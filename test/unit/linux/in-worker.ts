// A thread that uses src/linux as the worker does, and reports the results to its parent.

import { parentPort } from 'node:worker_threads';
import { POLLIN } from '../../../src/constants/poll-events.js';
import { errno, libc } from '../../../src/linux/libc.js';
import { pipe } from '../../../src/linux/pipe.js';
import { PollSet } from '../../../src/linux/poll.js';
import { closeDescriptor, socketpair } from '../../../src/linux/socket.js';

const { read, write } = pipe();
const [left, right] = socketpair();
const set = new PollSet(2);
const first = set.add(read, POLLIN);
const second = set.add(left, POLLIN);
parentPort?.postMessage({ write });
const count = set.wait(-1);
const woken = [set.reventsOf(first), set.reventsOf(second)];
const failed = libc.close(-1);
const number = errno();
for (const descriptor of [read, write, left, right]) closeDescriptor(descriptor);
parentPort?.postMessage({ count, woken, failed, number });
