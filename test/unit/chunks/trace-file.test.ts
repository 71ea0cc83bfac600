import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readTraceFile, TraceFileError, writeTraceFile } from '../../../src/chunks/cache/trace-file.js';
import { scratchFolder } from '../../support/cleanup.js';

const unitsIn = async (path: string): Promise<number[]> => [...((await readTraceFile(path)) ?? [])];

describe('trace file', () => {
  it('has the units that were written last, in their order, and is for its owner only', async () => {
    const path = `${scratchFolder()}/trace`;
    expect(await readTraceFile(path)).toBeUndefined();
    await writeTraceFile(path, Uint32Array.of(7, 1, 4_000_000_000));
    expect(await unitsIn(path)).toEqual([7, 1, 4_000_000_000]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await writeTraceFile(path, Uint32Array.of(3));
    expect(await unitsIn(path)).toEqual([3]);
    expect(readFileSync(path, 'latin1')).toBe('nbdfuse trace 1\n\x03\0\0\0');
  });

  it('is a trace at any time while it is written: the new units lie over the old ones', async () => {
    const path = `${scratchFolder()}/trace`;
    await writeTraceFile(path, Uint32Array.of(1, 2, 3));
    const { ino } = statSync(path);
    await writeTraceFile(path, Uint32Array.of(4, 5));
    expect(statSync(path).ino).toBe(ino);
    writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.from([9])]));
    expect(await unitsIn(path)).toEqual([4, 5]);
  });

  it('may be empty before', async () => {
    const path = `${scratchFolder()}/trace`;
    writeFileSync(path, '');
    expect(await unitsIn(path)).toEqual([]);
    await writeTraceFile(path, Uint32Array.of(2));
    expect(await unitsIn(path)).toEqual([2]);
  });

  it.each(['notes', 'nbdfuse trace 2\n', 'a file of the user '.repeat(100)])(
    'is not a file that begins with `%s`, which stays as it is',
    async (text) => {
      const path = `${scratchFolder()}/notes`;
      writeFileSync(path, text);
      const why = `cannot use ${path} as a trace: it has other bytes, which nbdfuse does not overwrite; name a new file`;
      await expect(readTraceFile(path)).rejects.toThrow(new TraceFileError(why));
      await expect(writeTraceFile(path, Uint32Array.of(1))).rejects.toThrow(new TraceFileError(why));
      expect(readFileSync(path, 'latin1')).toBe(text);
    },
  );

  it('is neither a directory nor behind a link', async () => {
    const folder = scratchFolder();
    mkdirSync(`${folder}/directory`);
    symlinkSync('elsewhere', `${folder}/link`);
    await expect(readTraceFile(`${folder}/directory`)).rejects.toThrow('is not a regular file');
    await expect(readTraceFile(`${folder}/link`)).rejects.toThrow('ELOOP');
    await expect(writeTraceFile(`${folder}/link`, Uint32Array.of(1))).rejects.toThrow('ELOOP');
  });
});
