import { describe, expect, it } from 'vitest';
import { exportsAsJson, exportsAsText } from '../../../src/cli/commands/list.js';
import type { ExportInfo, ListedExport } from '../../../src/nbd/export-info.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';

const INFO: ExportInfo = {
  ...PLAIN_EXPORT,
  name: 'disk',
  flags: 0b111,
  blockSizes: { minimum: 1, preferred: 4096, maximum: 0xffff_ffff },
  description: 'the disk',
  canonicalName: 'the-disk',
};

const listed = (change: Partial<ExportInfo> = {}): ListedExport => ({
  name: 'disk',
  info: { ...INFO, ...change },
});

/** The text after a label. */
function textOf(label: string, exports: readonly ListedExport[]): string | undefined {
  return new RegExp(`^ {4}${label}: (.*)$`, 'm').exec(exportsAsText(exports))?.[1];
}

describe('list for people', () => {
  it('has a paragraph for each export', () => {
    expect(exportsAsText([{ name: '' }, listed()])).toBe(
      [
        'export ""',
        '    the server gives no details',
        '',
        'export "disk"',
        '    description: the disk',
        '    canonical name: "the-disk"',
        '    size: 1048576 bytes (1 MiB)',
        '    flags: NBD_FLAG_HAS_FLAGS NBD_FLAG_READ_ONLY NBD_FLAG_SEND_FLUSH',
        '    block sizes: minimum 1, preferred 4096, maximum 4294967295',
        '',
      ].join('\n'),
    );
  });

  it('reports that there is no export', () =>
    expect(exportsAsText([])).toBe('the server lists no exports\n'));

  it.each([
    [0n, '0 bytes'],
    [1023n, '1023 bytes'],
    [1024n, '1024 bytes (1 KiB)'],
    [1536n, '1536 bytes'],
    [5n * 2n ** 40n, '5497558138880 bytes (5 TiB)'],
    [2n ** 62n, '4611686018427387904 bytes (4 EiB)'],
    [2n ** 63n - 1n, '9223372036854775807 bytes'],
  ])('shows a size exactly, and in units where that is exact too: %d', (size, text) => {
    expect(textOf('size', [listed({ size })])).toBe(text);
  });

  it('shows the bytes of a name that is not UTF-8, and how to write it', () => {
    const text = exportsAsText([{ ...listed({ canonicalName: 'n\udcff u' }), name: 'n\udcff u' }]);
    expect(text).toMatch(/^export "n\\xff u"\n {4}name in a URI: n%FF%20u\n/);
    expect(text).not.toContain('canonical');
  });

  it('omits the canonical name where it is the same', () => {
    expect(textOf('canonical name', [listed({ canonicalName: 'disk' })])).toBeUndefined();
  });

  it('shows which block sizes are unknown', () => {
    expect(textOf('block sizes', [listed({ blockSizes: undefined })])).toBe('not advertised');
  });

  it('prefers the description of the list, and escapes control characters', () => {
    const one = { ...listed(), name: 'a\x1b[2Jb', description: 'first\nsecond' };
    expect(textOf('description', [one])).toBe('first\\nsecond');
    expect(exportsAsText([one])).toContain('export "a\\x1b[2Jb"\n');
  });
});

describe('list for programs', () => {
  it('is one object with everything that the server reported', () => {
    expect(JSON.parse(exportsAsJson([listed(), { name: 'other', description: 'text' }]))).toEqual({
      exports: [
        {
          name: 'disk',
          description: 'the disk',
          canonicalName: 'the-disk',
          size: 1_048_576,
          flags: ['NBD_FLAG_HAS_FLAGS', 'NBD_FLAG_READ_ONLY', 'NBD_FLAG_SEND_FLUSH'],
          blockSizes: { minimum: 1, preferred: 4096, maximum: 0xffff_ffff },
        },
        {
          name: 'other',
          description: 'text',
          canonicalName: null,
          size: null,
          flags: null,
          blockSizes: null,
        },
      ],
    });
  });

  it('is an empty list without exports', () => {
    expect(JSON.parse(exportsAsJson([]))).toEqual({ exports: [] });
  });

  it('has every digit of a size', () => {
    expect(exportsAsJson([listed({ size: 2n ** 63n - 1n })])).toContain('"size": 9223372036854775807,');
  });

  it('escapes characters that would end a string', () => {
    const name = 'a"\\\n\x1b\u2028';
    expect(JSON.parse(exportsAsJson([{ name }]))).toMatchObject({ exports: [{ name }] });
  });
});
