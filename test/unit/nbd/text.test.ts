// Foreign text becomes one line, escaped and bounded.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { printable, printableSink } from '../../../src/nbd/text.js';
import { hex } from '../../support/hex.js';

describe('printable', () => {
  it.each([
    ['plain text', 'plain text'],
    ['Größe 盘 💾', 'Größe 盘 💾'],
    ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['\x1b[31m\x07\x7f\x9b', '\\x1b[31m\\x07\\x7f\\x9b'],
    ['\0', '\\x00'],
    ['a\u202eb\u2028c\u200b', 'a\\u{202e}b\\u{2028}c\\u{200b}'],
    ['\ud800', '\\u{d800}'],
    ['a\udcff', 'a\\xff'],
  ])('shows %j as %j', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('decodes bytes, and shows invalid UTF-8 as U+FFFD', () => {
    expect(printable(hex`"ok " c3a9 ff`)).toBe('ok é\ufffd');
  });

  it('cuts at a limit in bytes, between characters, and marks the cut', () => {
    expect(printable('x'.repeat(4096))).toHaveLength(4096);
    expect(printable('x'.repeat(4097))).toBe(`${'x'.repeat(4096)}…`);
    expect(printable('éé', 3)).toBe('é…');
    expect(printable(hex`78*100000`, 10)).toBe(`${'x'.repeat(10)}…`);
  });

  it('leaves no control character, for any input', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.uint8Array()), (text) => {
        expect(printable(text)).not.toMatch(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u);
      }),
    );
  });
});

describe('printableSink', () => {
  it('escapes all but line ends and tabs, as the bytes arrive', () => {
    const written: string[] = [];
    const sink = printableSink((text) => written.push(text));
    sink(Buffer.from('no line end \x1b]0;x\x07'));
    sink(Buffer.from('\tand\r\nmore \u202e\n'));
    expect(written).toEqual(['no line end \\x1b]0;x\\x07', '\tand\nmore \\u{202e}\n']);
  });

  it('joins a character that arrives in two parts', () => {
    const written: string[] = [];
    const sink = printableSink((text) => written.push(text));
    for (const byte of Buffer.from('é')) sink(Buffer.of(byte));
    expect(written).toEqual(['é']);
  });
});
