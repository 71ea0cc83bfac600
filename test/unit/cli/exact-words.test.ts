import { expect, it } from 'vitest';
import { exactWords, isDoubtful, refuseOtherThanUtf8 } from '../../../src/cli/arguments/exact-words.js';

const COMMAND_LINE = Buffer.from('node\0--flag\0bin/nbdfuse\0n\xffu\0\0\xef\xbf\xbd\0nbd://h\0', 'latin1');

it('command line: takes the bytes of words that node could not decode', () => {
  const words = ['n\ufffdu', '', '\ufffd', 'nbd://h'];
  expect(isDoubtful(words)).toBe(true);
  expect(isDoubtful(['dir', 'nbd://h'])).toBe(false);
  expect(exactWords(words, COMMAND_LINE)).toEqual(['n\udcffu', '', '\ufffd', 'nbd://h']);
  expect(exactWords(words, Buffer.alloc(0))).toEqual(words);
});

it('command line: accepts other bytes than UTF-8 only where they reach the system unchanged', () => {
  const words = ['--pidfile=p\udcff', 'n\udcffu', 'nbd://h'];
  expect(() => refuseOtherThanUtf8(words, ['n\udcffu', 'p\udcff'])).not.toThrow();
  expect(() => refuseOtherThanUtf8(words, ['n\udcffu', undefined])).toThrow(
    '--pidfile=p\\xff: the name is not UTF-8, which only MOUNTPOINT and --pidfile may be; use another name',
  );
  expect(() => refuseOtherThanUtf8(['', 'i\udcffmg'], [''])).toThrow('i\\xffmg: the name is not UTF-8');
});
