import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;
const SIZE = 8 * MIB;

/** Numbers that are the same each time. */
function* randomNumbers(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state;
  }
}

it.each([
  ['the default cache', []],
  ['--cache=none', ['--cache=none']],
  ['four connections', ['-C', '4']],
  ['fuse-native', ['--fuse-backend=fuse-native']],
])('nbdkit memory: keeps every byte of many writes at odd offsets, with %s', async (_, options) => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', '8M');
  const first = await mountDisk(scope, { server: [server.uri()], options });
  const expected = Buffer.alloc(SIZE);
  const numbers = randomNumbers(7);
  const handle = await open(first.file, 'r+');
  for (let count = 0; count < 300; count++) {
    const length = 1 + (numbers.next().value % 70_000);
    const offset = numbers.next().value % (SIZE - length);
    expected.fill(`${count}:${offset} `, offset, offset + length);
    await handle.write(expected, offset, length, offset);
  }
  await handle.close();
  expect(await first.stop()).toBe(0);

  const second = await mountDisk(scope, { server: [server.uri()], options, name: 'again' });
  const found = await open(second.file, 'r');
  const { buffer, bytesRead } = await found.read(Buffer.alloc(SIZE), 0, SIZE, 0);
  await found.close();
  expect(bytesRead).toBe(SIZE);
  expect(buffer.equals(expected)).toBe(true);
});
