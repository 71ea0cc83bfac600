// A thread that forwards two requests as a read thread does, and then runs out of memory.

import { workerData } from 'node:worker_threads';
import { BufferPool, LARGEST_BUFFER } from '../../../../src/worker/memory/buffer-pool.js';
import { LASTING_MEMORY } from '../../../../src/worker/memory/memory.js';
import { Forwarding } from '../../../../src/worker/read-threads/forwarding.js';
import { RingProducer } from '../../../../src/worker/read-threads/ring.js';

const { memory, wake } = workerData;
const buffers = new BufferPool(LARGEST_BUFFER * 4, LASTING_MEMORY);
const forwarding = new Forwarding(new RingProducer(memory, wake), buffers);
for (const length of [4096, LARGEST_BUFFER]) {
  const buffer = buffers.take(length);
  buffer.bytes.fill(7, 0, length);
  forwarding.request(buffer, length);
}
const kept: unknown[] = [];
for (;;) kept.push(new Array(1000).fill(kept.length));
