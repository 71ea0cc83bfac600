import { setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { addressOf } from '../../../src/linux/libc.js';

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

/** Asks for the address of memory that nothing else refers to. */
function askForNew(): WeakRef<ArrayBufferView> {
  const view = new Uint8Array(4096);
  addressOf(view);
  return new WeakRef(view);
}

/** Collects garbage one turn later, since a WeakRef holds its target until the present turn ends. */
async function collect(): Promise<void> {
  await pause(0);
  gc();
}

it('addressOf: keeps the memory of the last address until the call', async () => {
  const memory = askForNew();
  await collect();
  expect(memory.deref()).toBeDefined();
});

it('addressOf: does not keep memory for ever', async () => {
  const memory = askForNew();
  for (let i = 0; i < 100; i++) askForNew();
  await collect();
  expect(memory.deref()).toBeUndefined();
});
