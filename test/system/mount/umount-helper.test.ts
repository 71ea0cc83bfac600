import { expect, it } from 'vitest';
import { isRegistered } from '../../../src/mount/umount-helper.js';

it('umount helper: finds a mount in the table of mount options by source, path and option', () => {
  const table = [
    'SRC=nbdfuse TARGET=/mnt/other ROOT=/ OPTS=helper=fuse.nbdfuse',
    'ID=12 SRC=nbd://host/a,b TARGET=/mnt/a\\040disk ROOT=/ ATTRS=x OPTS=_netdev,helper=fuse.nbdfuse',
    'SRC=nbdfuse TARGET=/mnt/plain ROOT=/ OPTS=_netdev',
    '',
  ].join('\n');
  expect(isRegistered(table, { source: 'nbdfuse', path: '/mnt/other' })).toBe(true);
  expect(isRegistered(table, { source: 'nbd://host/a,b', path: '/mnt/a disk' })).toBe(true);
  expect(isRegistered(table, { source: 'nbdfuse', path: '/mnt/a disk' })).toBe(false);
  expect(isRegistered(table, { source: 'nbdfuse', path: '/mnt/plain' })).toBe(false);
  expect(isRegistered('', { source: 'nbdfuse', path: '/mnt' })).toBe(false);
});
