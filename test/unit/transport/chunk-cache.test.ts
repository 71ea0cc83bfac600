import { expect, test } from 'vitest';
import { exportedCacheFile } from '../../../src/transport/chunk-cache.js';
import { CHUNK_SERVER_WORDS } from '../../../src/transport/chunk-program.js';
import { confinedWords } from '../../../src/transport/confine.js';

const CACHED = [...CHUNK_SERVER_WORDS, '--coding=xz', '--cache-file=/a=b c', '--', 'nbdkit', '--run=x'];

test('the cache file of an export is that of a chunk server that nothing stands on', () => {
  expect(exportedCacheFile(CACHED)).toBe('/a=b c');
  expect(exportedCacheFile(confinedWords(CACHED, {}))).toBe('/a=b c');
  expect(exportedCacheFile(CACHED.map((word) => word.replace('xz', 'plain')))).toBe('/a=b c');
});

test('an export has no cache file without the option, with another server on top, or with no chunk server', () => {
  const [node, script, coding, file] = CACHED;
  expect(exportedCacheFile([node, script, coding, '--file=/a', '--', file])).toBeUndefined();
  expect(exportedCacheFile([node, script, '--run=qemu-nbd', file])).toBeUndefined();
  expect(exportedCacheFile(['nbdkit', 'sh', node, script, file])).toBeUndefined();
  expect(exportedCacheFile([])).toBeUndefined();
});
