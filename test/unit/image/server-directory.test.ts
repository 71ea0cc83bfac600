import { basename } from 'node:path';
import { expect, it } from 'vitest';
import { serverDirectory } from '../../../src/image/server-directory.js';

/** A file of the current directory of the tests. */
const FILE = 'package.json';

it.each([
  [['qemu-nbd', '--discard=unmap', 'json:{"driver":"raw","filename":"/images/disk.raw"}'], '/'],
  [['nbdkit', 'file', 'file=/images/disk.raw'], '/'],
  [['nbdkit', 'file', `file=${FILE}`], undefined],
  [['nbdkit', 'nbd', 'command=nbdkit', `arg=file=./${FILE}`], undefined],
  [['perl', '/confine.pl', '-r', `../${basename(process.cwd())}/${FILE}`], undefined],
])('image server: runs in / unless a word is a relative path: %j', (argv, directory) => {
  expect(serverDirectory(argv)).toBe(directory);
});
