import { expect, it } from 'vitest';
import { worksDuringSeek } from '../../../src/linux/sync.js';

it.each([
  ['6.1.0-56-amd64', false],
  ['5.15.0-1-generic', false],
  ['6.15.11', false],
  ['6.16.0', true],
  ['6.18.9-cloud', true],
  ['7.0-rc1', true],
  ['', false],
])('sync_file_range: Linux %s sends its writes during lseek(2): %s', (release, expected) => {
  expect(worksDuringSeek(release)).toBe(expected);
});
