import { describe, expect, it } from 'vitest';
import { nameBytes, nameFrom } from '../../../../src/nbd/wire.js';
import { fileName, fileNames } from '../../../../src/session/exports/file-names.js';

describe('file name of an export', () => {
  it.each([
    ['disk.img', 'disk.img'],
    ['Größe 1 – 你好.raw', 'Größe 1 – 你好.raw'],
    ['a/b', 'a%2Fb'],
    ['/disk', '%2Fdisk'],
    ['50%', '50%25'],
    ['a%2Fb', 'a%252Fb'],
    ['new\nline\t\x7f\x1b[31m', 'new%0Aline%09%7F%1B[31m'],
    ['\u0085', '%C2%85'],
    ['.', '%2E'],
    ['..', '%2E%2E'],
    ['...', '...'],
    ['.hidden', '.hidden'],
    ['', 'nbd'],
    [' ', ' '],
    ['x'.repeat(255), 'x'.repeat(255)],
  ])('%j is %j', (exportName, name) => expect(fileName(exportName)).toBe(name));

  it('is cut to 255 bytes, neither in a character nor in an escape, and stays unique', () => {
    for (const long of [
      'x'.repeat(256),
      'ü'.repeat(2048),
      '/'.repeat(4096),
      '€'.repeat(100),
      `${'a'.repeat(236)}€€€€€€€`,
    ]) {
      const name = fileName(long);
      expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255);
      expect(Buffer.byteLength(name)).toBeGreaterThan(230);
      expect(name).toMatch(/^(x+|ü+|(%2F)+|€+|a+€*)~[0-9a-f]{16}$/);
    }
    expect(fileName('x'.repeat(300))).not.toBe(fileName('x'.repeat(301)));
  });

  it('keeps bytes that are not UTF-8, so that the export can be opened', () => {
    const bytes = Uint8Array.of(0x61, 0xff, 0xc3, 0xbc, 0xe2, 0x82, 0xef, 0xbb, 0xbf);
    const exportName = nameFrom(bytes);
    expect(nameBytes(exportName)).toEqual(bytes);
    expect(fileName(exportName)).toBe('a%FFü%E2%82\ufeff');
  });
});

describe('file names of a list', () => {
  const names = (...exports: string[]): string[] => [...fileNames(exports).values()];

  it('are in its order, one for each export', () => {
    expect([...fileNames(['b', 'a/', 'b', ''])]).toEqual([
      ['b', 'b'],
      ['a/', 'a%2F'],
      ['', 'nbd'],
    ]);
  });

  it('leave an export its own name, even if the file of another would have it, in any order', () => {
    expect(names('', 'nbd')).toEqual(['nbd~e3b0c44298fc1c14', 'nbd']);
    expect(names('nbd', '')).toEqual(['nbd', 'nbd~e3b0c44298fc1c14']);
    const long = 'x'.repeat(300);
    const [first, second] = names(long, fileName(long));
    expect(second).toBe(fileName(long));
    expect(first).not.toBe(second);
    expect(first).toHaveLength(255);
  });

  it('omit an export only if the list takes all its possible names', () => {
    const [mine] = names('', 'nbd');
    const against = ['nbd', mine, mine.replace('~', '~~')];
    expect([...fileNames(['', ...against]).keys()]).toEqual(against);
  });

  it('all differ, for any names', () => {
    const nasty = ['', 'nbd', '.', '..', '%2E', '/', '%2F', 'x', '\n', '%0A', '~', 'x'.repeat(256)];
    const found = names(...nasty);
    expect(new Set(found).size).toBe(nasty.length);
    for (const name of found) expect(name).not.toMatch(/^\.{0,2}$|[/\0]/);
  });
});
