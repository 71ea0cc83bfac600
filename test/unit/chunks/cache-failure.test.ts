// A cache file whose disk fails while writes to it are under way.

import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { adoptFiles } from '../../../src/chunks/cache/cache-file.js';
import { REGION_UNITS } from '../../../src/chunks/cache/cache-index.js';
import type { StoredFile } from '../../../src/chunks/cache/stored-file.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import { lengthOfUnit, UNIT } from '../../../src/chunks/contract/units.js';
import { EIO, ENOSPC } from '../../../src/constants/errno.js';
import { CrashingDisk, emptyDisk } from '../../support/crashing-disk.js';

/** Two regions. */
const UNITS = REGION_UNITS + 4;
const SIZE = UNITS * UNIT;

const failure = (errno: number): Error => Object.assign(new Error('the disk fails'), { errno: -errno });

/** Writes that wait, and operations that fail. */
class BadDisk {
  readonly disk = new CrashingDisk(emptyDisk(), () => 0);
  readonly lines: string[] = [];
  /** The unit whose write fails. */
  failing: number | undefined;
  #waiting: (() => void)[] | undefined;

  async open(): Promise<UnitFile> {
    const data = this.disk.file('data');
    let isClosed = false;
    const bad: StoredFile = {
      ...data,
      write: (...words) => this.#write(data, ...words),
      truncate: async (size) => {
        await setImmediate();
        if (isClosed) throw failure(EIO);
        return data.truncate(size);
      },
      close: async () => {
        isClosed = true;
      },
    };
    return adoptFiles(
      { data: bad, index: this.disk.file('index') },
      { size: 0, onDisk: 0 },
      {
        path: 'FILE',
        identity: { source: '/disk', coding: 'plain', fileSize: SIZE, version: 'a' },
        size: SIZE,
        limit: undefined,
        onFailure: (line) => void this.lines.push(line),
        onLine: (line) => void this.lines.push(line),
      },
    );
  }

  /** Writes to FILE wait from now on. */
  hold(): void {
    this.#waiting = [];
  }

  get held(): number {
    return this.#waiting?.length ?? 0;
  }

  release(): void {
    for (const go of this.#waiting ?? []) go();
    this.#waiting = undefined;
  }

  async #write(data: StoredFile, offset: number, bytes: Uint8Array): Promise<void> {
    if (offset / UNIT === this.failing) throw failure(EIO);
    const waiting = this.#waiting;
    if (waiting !== undefined) await new Promise<void>((go) => void waiting.push(go));
    return data.write(offset, bytes);
  }
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await setImmediate();
};

function store(file: UnitFile, ...units: readonly number[]): void {
  for (const unit of units) file.write(unit, new Uint8Array(lengthOfUnit(unit, SIZE)).fill(1));
}

describe('cache file: a disk that fails', () => {
  it('is empty after a change that it cannot remember, whatever was being written', async () => {
    const bad = new BadDisk();
    const file = await bad.open();
    store(file, 0);
    await file.flush();
    bad.hold();
    store(file, 1, 2, UNITS - 1);
    await turns();
    expect(bad.held).toBe(3);
    bad.disk.onOperation = (kind, name) => {
      if (name === 'index' && kind === 'write') throw failure(ENOSPC);
    };
    const dropped = file.drop(0, 1);
    expect(dropped).toBeDefined();
    await turns();
    bad.release();
    await dropped;
    expect(bad.disk.dataSize).toBe(0);
    await file.close();
    expect(bad.disk.dataSize).toBe(0);
    expect(bad.lines).toEqual(['the cache FILE has failed: no space left on device; going on without it']);
  });

  it('is empty at its end, after a write has failed beside others, while changes are remembered', async () => {
    const bad = new BadDisk();
    const file = await bad.open();
    store(file, 0);
    await file.flush();
    await file.drop(0, 1);
    bad.hold();
    bad.failing = 1;
    store(file, 1, 2, UNITS - 1);
    await turns();
    expect(bad.held).toBe(2);
    const closed = file.close();
    await turns();
    bad.release();
    await closed;
    await turns();
    expect(bad.disk.dataSize).toBe(0);
    expect(bad.lines).toEqual(['the cache FILE has failed: input/output error; going on without it']);
  });
});
