import { expect, it } from 'vitest';
import { findAgain, mountOf, parseMountTable, readMountTable } from '../../../src/mount/mount-table.js';

// As in proc_pid_mountinfo(5): id, parent, device, root, path, options, optional fields, -, type, source, …
const TABLE = `\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 27 0:22 / /proc rw,nosuid - proc proc rw
66 45 0:40 / /tmp/a\\040b\\011c\\134d\\043e rw,nosuid,nodev - fuse.nbdfuse disk\\040one rw,user_id=0
67 66 0:41 / /tmp/größe rw shared:1 propagate_from:2 - fuse.nbdfuse nbdfuse rw,user_id=0,group_id=0
68 66 0:42 / /tmp/f rw,nosuid - fuse.nbdfuse - rw,user_id=0
`;

it('mount table: reads number, device, path, type and source of each mount', () => {
  expect(parseMountTable(Buffer.from(TABLE))).toEqual([
    {
      id: 36,
      device: '98:0',
      path: '/mnt2',
      type: 'ext3',
      source: '/dev/root',
      userId: undefined,
      groupId: undefined,
    },
    {
      id: 40,
      device: '0:22',
      path: '/proc',
      type: 'proc',
      source: 'proc',
      userId: undefined,
      groupId: undefined,
    },
    {
      id: 66,
      device: '0:40',
      path: '/tmp/a b\tc\\d#e',
      type: 'fuse.nbdfuse',
      source: 'disk one',
      userId: 0,
      groupId: undefined,
    },
    {
      id: 67,
      device: '0:41',
      path: '/tmp/größe',
      type: 'fuse.nbdfuse',
      source: 'nbdfuse',
      userId: 0,
      groupId: 0,
    },
    {
      id: 68,
      device: '0:42',
      path: '/tmp/f',
      type: 'fuse.nbdfuse',
      source: '-',
      userId: 0,
      groupId: undefined,
    },
  ]);
});

it('mount table: skips malformed lines', () => {
  expect(parseMountTable(Buffer.from('\nnonsense\n1 2 3\n1 2 0:3 / /x rw - \n'))).toEqual([]);
});

it('mount table: finds the mounts of this system', () => {
  const proc = readMountTable().find(({ path }) => path === '/proc');
  expect(proc).toMatchObject({ path: '/proc', type: 'proc' });
  if (proc === undefined) return;
  expect(mountOf(proc.id)).toEqual(proc);
  expect(findAgain(proc)).toEqual(proc);
  expect(findAgain({ ...proc, device: '0:0' })).toBeUndefined();
});
