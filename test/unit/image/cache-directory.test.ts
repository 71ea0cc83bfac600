import { existsSync, utimesSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openCacheFile } from '../../../src/chunks/cache/cache-file.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { createKept } from '../../../src/image/keep.js';
import { Made } from '../../../src/image/made.js';
import { scratchFolder } from '../../support/cleanup.js';

/** Makes a cache of 1 MiB that was last used so many seconds after 1970. */
async function make(path: string, lastUse: number) {
  const file = await openCacheFile({
    path,
    identity: { source: path, coding: 'xz', fileSize: 1, version: '' },
    size: 4 * UNIT,
    limit: undefined,
    onFailure: (line) => expect(line).toBe(''),
    onLine: (line) => expect(line).toBe(''),
  });
  for (let unit = 0; unit < 4; unit++) file?.write(unit, new Uint8Array(UNIT).fill(1));
  await file?.flush();
  for (const name of [path, `${path}.index`]) utimesSync(name, lastUse, lastUse);
  return file;
}

describe('cache directory', () => {
  it('removes the least recently used caches beyond --cache-size, but no used one and not its own', async () => {
    const cacheDir = scratchFolder();
    const path = (name: string): string => `${cacheDir}/${name}`;
    const used = await make(path('used'), 100);
    for (const [i, name] of ['own', 'old', 'middle', 'new'].entries())
      await (await make(path(name), 0))?.close().then(() => {
        for (const file of [path(name), `${path(name)}.index`]) utimesSync(file, 200 + i, 200 + i);
      });
    const cacheSize = 4 * 1024 * 1024;
    await createKept({ cacheDir, cacheSize }, { cacheFile: path('own'), cacheSize }, new Made());
    const left = ['used', 'own', 'old', 'middle', 'new'].filter((name) => existsSync(path(name)));
    expect(left).toEqual(['used', 'own', 'new']);
    await used?.close();
  });
});
