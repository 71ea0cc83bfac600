import { readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';
import { expect, it } from 'vitest';
import { loadLibrary } from '../../../src/linux/libc.js';

/** The libfuse that comes with fuse-native, which nothing else in this process loads. */
function libraryPath(): string {
  const require = createRequire(import.meta.url);
  const shared: { lib: string } = createRequire(require.resolve('fuse-native'))('fuse-shared-library');
  return realpathSync(shared.lib);
}

const isLoaded = (path: string): boolean => readFileSync('/proc/self/maps', 'utf8').includes(path);

async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  for (let i = 0; i < 5; i++) {
    gc();
    await setTimeout(20);
  }
}

it('loadLibrary: garbage collection does not unload a library whose handle nobody keeps', async () => {
  const path = libraryPath();
  koffi.load(path);
  expect(isLoaded(path)).toBe(true);
  await collectGarbage();
  // koffi unloads it: otherwise this test would prove nothing.
  expect(isLoaded(path)).toBe(false);
  loadLibrary(path);
  await collectGarbage();
  expect(isLoaded(path)).toBe(true);
});
