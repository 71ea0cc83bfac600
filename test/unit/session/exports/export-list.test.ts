import { describe, expect, it } from 'vitest';
import type { ExportInfo, ListedExport } from '../../../../src/nbd/export-info.js';
import { ExportList } from '../../../../src/session/exports/export-list.js';
import { PLAIN_EXPORT } from '../../../support/export-info.js';

const INFO: ExportInfo = { ...PLAIN_EXPORT, size: 1024n };

const listed = (name: string, info: Partial<ExportInfo> | null = {}): ListedExport => ({
  name,
  info: info === null ? undefined : { ...INFO, name, ...info },
});

/** Numbers and names of the added files, numbers of the removed ones. */
function changes(list: ExportList, ...exports: ListedExport[]): string {
  const { added, removed } = list.update(exports);
  return [
    ...added.map(({ number, name }) => `+${number} ${name}`),
    ...removed.map((number) => `-${number}`),
  ].join();
}

describe('export list', () => {
  it('keeps known exports, and numbers new ones', () => {
    const list = new ExportList();
    expect(changes(list, listed('a'), listed('b'))).toBe('+0 a,+1 b');
    expect(changes(list, listed('b'), listed('a'))).toBe('');
    expect(changes(list, listed('b'), listed('c'))).toBe('+2 c,-0');
    expect(changes(list, listed('a'), listed('b'), listed('c'))).toBe('+3 a');
    expect(changes(list)).toBe('-1,-2,-3');
  });

  it.each<[string, Partial<ExportInfo>]>([
    ['size', { size: 2048n }],
    ['flags', { flags: 3 }],
    ['block sizes', { blockSizes: { minimum: 1, preferred: 4096, maximum: 65_536 } }],
  ])('makes another file of an export with another %s', (_, change) => {
    const list = new ExportList();
    changes(list, listed('a'));
    expect(changes(list, listed('a', change))).toBe('+1 a,-0');
    expect(list.file(0)).toBeUndefined();
    expect(list.file(1)?.info).toMatchObject(change);
  });

  it('ignores a size of 0, and keeps known facts while nothing is reported', () => {
    const list = new ExportList();
    expect(changes(list, listed('a', { size: 0n }), listed('b', null))).toBe('+0 a,+1 b');
    expect([list.file(0)?.info, list.file(1)?.info]).toEqual([undefined, undefined]);
    list.learn(0, { ...INFO, size: 99n });
    expect(changes(list, listed('a', { size: 0n }), listed('b', null))).toBe('');
    expect(list.file(0)?.info?.size).toBe(99n);
  });

  it('replaces and removes single files', () => {
    const list = new ExportList();
    changes(list, listed('a'), listed('b'));
    expect(list.replace(0, { ...INFO, size: 5n })).toMatchObject({
      added: [{ number: 2, name: 'a' }],
      removed: [0],
    });
    expect(list.remove(1)).toEqual({ added: [], removed: [1] });
    expect([list.replace(0, INFO), list.remove(7)]).toEqual([
      { added: [], removed: [] },
      { added: [], removed: [] },
    ]);
    expect(list.files().map(({ number }) => number)).toEqual([2]);
  });

  it('renames the file of the default export while an export of its name exists', () => {
    const list = new ExportList();
    expect(changes(list, listed(''))).toBe('+0 nbd');
    expect(changes(list, listed(''), listed('nbd'))).toMatch(/^\+1 nbd~[0-9a-f]{16},\+2 nbd,-0$/);
    expect(list.file(1)?.exportName).toBe('');
  });
});
