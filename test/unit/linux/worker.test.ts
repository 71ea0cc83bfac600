import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { buildProgram } from './build.js';

it('libc: a worker thread can wait, wake others and read errno', async () => {
  const scope = createScope();
  const program = await buildProgram(scope, resolve(import.meta.dirname, 'in-worker.ts'));
  const worker = new Worker(program);
  scope.add(() => worker.terminate());
  const [{ write }] = await once(worker, 'message');
  const result = once(worker, 'message');
  writeSync(write, 'wake');
  expect(await result).toEqual([{ count: 1, woken: [1, 0], failed: -1, number: 9 }]);
});
