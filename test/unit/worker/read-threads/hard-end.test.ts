import { once } from 'node:events';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { addressOf, libc } from '../../../../src/linux/libc.js';
import { pipe } from '../../../../src/linux/pipe.js';
import { LARGEST_BUFFER } from '../../../../src/worker/memory/buffer-pool.js';
import { makeRingMemory, RingConsumer } from '../../../../src/worker/read-threads/ring.js';
import { createScope } from '../../../support/cleanup.js';
import { buildProgram } from '../../linux/build.js';

it('read threads: the worker can take the requests of a thread that ran out of memory', async () => {
  const scope = createScope();
  const program = await buildProgram(scope, resolve(import.meta.dirname, 'exhausted-thread.ts'));
  const memory = makeRingMemory();
  const { read, write } = pipe();
  scope.add(() => {
    libc.close(read);
    libc.close(write);
  });
  const thread = new Worker(program, {
    workerData: { memory, wake: write },
    resourceLimits: { maxOldGenerationSizeMb: 16 },
  });
  scope.add(() => thread.terminate());
  const ended = once(thread, 'exit').catch(() => undefined);
  const [error] = await once(thread, 'error');
  expect(error.code).toBe('ERR_WORKER_OUT_OF_MEMORY');
  await ended;
  // Memory of the same sizes, which would take the place of freed memory.
  const others = [4096 + 128, 18 * 1024 * 1024].map((length) => Buffer.alloc(length, 9));
  const ring = new RingConsumer({ connection: 1, descriptor: -1, wake: -1, memory });
  const lengths: number[] = [];
  for (; ring.next(); ring.take()) {
    const copy = Buffer.alloc(ring.b);
    libc.memcpy(addressOf(copy), ring.a, ring.b);
    expect(copy.equals(Buffer.alloc(ring.b, 7))).toBe(true);
    lengths.push(ring.b);
  }
  expect(lengths).toEqual([4096, LARGEST_BUFFER]);
  expect(others).toHaveLength(2);
}, 60_000);
