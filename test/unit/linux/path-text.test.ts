import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isUtf8Path, pathBytes, textOfPath, wordsWithPath } from '../../../src/linux/path-text.js';

const bytes = (latin1: string): Buffer => Buffer.from(latin1, 'latin1');

it.each([
  ['n\xffu', 'n\udcffu'],
  ['\xc3', '\udcc3'],
  ['\xc3\xa4\xe4', 'ä\udce4'],
  ['\xed\xa0\x80', '\udced\udca0\udc80'],
  ['\xf0\x9f\x98\x80\x80', '😀\udc80'],
])('path text: shows bytes that are not UTF-8 as halves of surrogate pairs: %j', (path, text) => {
  expect(textOfPath(bytes(path))).toBe(text);
  expect(isUtf8Path(text)).toBe(false);
  expect(pathBytes(text)).toEqual(bytes(path));
});

it('path text: UTF-8 stays as it is, U+FFFD and a byte order mark too', () => {
  for (const text of ['', 'a/b', 'größe 😀', 'n\ufffdu', '\ufeffx']) {
    expect(textOfPath(Buffer.from(text))).toBe(text);
    expect(pathBytes(text)).toBe(text);
  }
});

it('path text: any bytes come back', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (path) => {
      expect(Buffer.from(pathBytes(textOfPath(path)))).toEqual(Buffer.from(path));
    }),
  );
});

it('path text: a program gets a path of any bytes as its last word', () => {
  for (const path of ['plain %s \\n', 'n\xffu %d\n\\ \'"$x', '\xff\n\n']) {
    const [command, ...words] = wordsWithPath(['printf', '%s|', 'first'], textOfPath(bytes(path)));
    expect(execFileSync(command, words)).toEqual(bytes(`first|${path}|`));
  }
});
