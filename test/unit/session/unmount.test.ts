import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openPath } from '../../../src/linux/path.js';
import type { OtherPlace } from '../../../src/mount/other-places.js';
import type { Backend } from '../../../src/session/backend/backend.js';
import { Deadline } from '../../../src/session/deadline.js';
import { unmountInOrder } from '../../../src/session/unmount.js';
import { FakeClock, settle } from './fake-clock.js';

const folders: string[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function createFile(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nbdfuse-test-'));
  folders.push(folder);
  const file = join(folder, 'file');
  await writeFile(file, 'x');
  return file;
}

type Answer = 'ok' | 'never' | Error;

function createBackend(
  answers: { eager: Answer; lazy: Answer },
  open?: Backend['open'],
  places: readonly OtherPlace[] = [],
) {
  const calls: string[] = [];
  return {
    calls,
    open: open ?? (async () => undefined),
    otherPlaces: () => ({ left: () => places }),
    unmount: ({ lazy }: { readonly lazy: boolean }): Promise<void> => {
      calls.push(lazy ? 'lazy' : 'eager');
      const answer = lazy ? answers.lazy : answers.eager;
      if (answer === 'never') return new Promise(() => undefined);
      return answer === 'ok' ? Promise.resolve() : Promise.reject(answer);
    },
  };
}

const BUSY = Object.assign(new Error('target is busy'), { errno: 16 });

describe('orderly unmount', () => {
  it('ends when the kernel has unmounted', async () => {
    const backend = createBackend({ eager: 'ok', lazy: 'ok' });
    expect(await unmountInOrder(backend, [], new Deadline(10_000))).toBe('unmounted');
    expect(backend.calls).toEqual(['eager']);
  });

  it('writes the files out, then detaches a mount in use', async () => {
    const path = await createFile();
    const backend = createBackend({ eager: BUSY, lazy: 'ok' }, () => openPath(path, { follow: true }));
    expect(await unmountInOrder(backend, [0], new Deadline(10_000))).toBe('busy');
    expect(backend.calls).toEqual(['eager', 'lazy']);
  });

  it('writes the files out through another place of the mount', async () => {
    const path = await createFile();
    const other = { id: 1, path: '/other', process: undefined };
    const opened: (OtherPlace | undefined)[] = [];
    const through: Backend['open'] = (_, place) => {
      opened.push(place);
      return openPath(path, { follow: true });
    };
    const backend = createBackend({ eager: 'ok', lazy: 'ok' }, through, [other]);
    expect(await unmountInOrder(backend, [0], new Deadline(10_000))).toBe('busy');
    expect([backend.calls, opened]).toEqual([['eager'], [other]]);
    const unreachable = () => Promise.reject(new Error('something else is mounted there'));
    const late = createBackend({ eager: 'ok', lazy: 'ok' }, unreachable, [other]);
    expect(await unmountInOrder(late, [0], new Deadline(10_000))).toBe('unreachable');
  });

  it('ends in order when the other place goes while it is opened, and tries the next one', async () => {
    const path = await createFile();
    const place = (id: number): OtherPlace => ({ id, path: '/other', process: undefined });
    const left = [place(1), place(2)];
    const goes = (): Promise<undefined> => {
      left.shift();
      return Promise.reject(new Error('ENOENT'));
    };
    const ending = {
      ...createBackend({ eager: 'ok', lazy: 'ok' }, goes),
      otherPlaces: () => ({ left: () => left }),
    };
    expect(await unmountInOrder(ending, [0], new Deadline(10_000))).toBe('unmounted');
    left.push(place(1), place(2));
    const second: Backend['open'] = (_, at) =>
      at?.id === 1 ? Promise.reject(new Error('EACCES')) : openPath(path, { follow: true });
    expect(await unmountInOrder({ ...ending, open: second }, [0], new Deadline(10_000))).toBe('busy');
  });

  it('ends in order when the last user leaves while the files are opened', async () => {
    const answers: { eager: Answer; lazy: Answer } = { eager: BUSY, lazy: 'ok' };
    const backend = createBackend(answers, () => {
      answers.eager = 'ok';
      return Promise.reject(new Error('it is no longer mounted'));
    });
    expect(await unmountInOrder(backend, [0], new Deadline(10_000))).toBe('unmounted');
    expect(backend.calls).toEqual(['eager', 'eager']);
  });

  it('tells that a file could not be reached to write it out', async () => {
    const unreachable = () => Promise.reject(new Error('something else is mounted there'));
    const backend = createBackend({ eager: BUSY, lazy: 'ok' }, unreachable);
    expect(await unmountInOrder(backend, [0], new Deadline(10_000))).toBe('unreachable');
    expect(backend.calls).toEqual(['eager', 'eager', 'lazy']);
  });

  it('syncs no file that is not shown any more', async () => {
    const backend = createBackend({ eager: BUSY, lazy: 'ok' });
    expect(await unmountInOrder(backend, [0], new Deadline(10_000))).toBe('busy');
  });

  it('detaches when the server does not accept the writes in time', async () => {
    const clock = new FakeClock();
    const backend = createBackend({ eager: 'never', lazy: 'ok' });
    const result = unmountInOrder(backend, [], new Deadline(10_000, undefined, clock));
    await clock.advance(7999);
    expect(backend.calls).toEqual(['eager']);
    await clock.advance(1);
    expect(await result).toBe('late');
    expect(backend.calls).toEqual(['eager', 'lazy']);
  });

  it('stops waiting at the hurry signal', async () => {
    const hurry = new AbortController();
    const backend = createBackend({ eager: 'never', lazy: 'ok' });
    const result = unmountInOrder(backend, [], new Deadline(10_000, hurry.signal));
    await settle();
    hurry.abort();
    expect(await result).toBe('late');
  });

  it('passes on any other failure', async () => {
    const backend = createBackend({ eager: new Error('no such mount'), lazy: 'ok' });
    await expect(unmountInOrder(backend, [], new Deadline(10_000))).rejects.toThrow('no such mount');
  });
});
