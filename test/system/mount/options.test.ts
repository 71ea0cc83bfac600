import { expect, it } from 'vitest';
import { HARMLESS_OPTIONS } from '../../../src/mount/option-table.js';
import { type FuseOptions, fuseOptionsHelp, parseFuseOptions } from '../../../src/mount/options.js';

const NOTHING: FuseOptions = {
  allowOther: false,
  allowRoot: false,
  autoUnmount: false,
  readOnly: false,
  nonempty: false,
  autoCache: false,
  directIo: false,
  asyncRead: true,
  mountFlags: [],
};

it.each<[string, Partial<FuseOptions>]>([
  ['allow_other', { allowOther: true }],
  ['auto_unmount', { autoUnmount: true }],
  ['default_permissions', {}],
  ['ro', { readOnly: true }],
  ['ro,rw', { readOnly: false }],
  ['nonempty', { nonempty: true }],
  ['uid=0', { uid: 0 }],
  ['uid=4294967295', { uid: 4_294_967_295 }],
  ['gid=1000', { gid: 1000 }],
  ['umask=027', { umask: 0o027 }],
  ['fsname=a=b', { fsname: 'a=b' }],
  ['subtype=disk', { subtype: 'disk' }],
  ['max_read=65536', { maxRead: 65_536 }],
  ['max_read=65536,max_read=0', { maxRead: undefined }],
  ['auto_cache', { autoCache: true }],
  ['auto_cache,noauto_cache', { autoCache: false }],
  ['auto_cache,kernel_cache', { autoCache: false }],
  ['direct_io', { directIo: true }],
  ['sync_read', { asyncRead: false }],
  ['sync_read,async_read', { asyncRead: true }],
  ['max_background=64', { maxBackground: 64 }],
  ['congestion_threshold=48', { congestionThreshold: 48 }],
  ['max_readahead=1048576', { maxReadahead: 1_048_576 }],
  ['entry_timeout=2.8', { entryTimeout: 2.8 }],
  ['attr_timeout=.5', { attributeTimeout: 0.5 }],
  ['negative_timeout=0', { negativeTimeout: 0 }],
  ['dev,suid,exec,atime,async', { mountFlags: ['dev', 'suid', 'exec', 'atime', 'async'] }],
  [
    'nodev,nosuid,noexec,noatime,sync,dirsync',
    { mountFlags: ['nodev', 'nosuid', 'noexec', 'noatime', 'sync', 'dirsync'] },
  ],
])('mount options: parses -o %s', (text, expected) => {
  expect(parseFuseOptions([text])).toEqual({ ...NOTHING, ...expected });
});

it('mount options: allow_root keeps group and others out, whatever the umask', () => {
  expect(parseFuseOptions(['allow_root'])).toEqual({ ...NOTHING, allowRoot: true, umask: 0o077 });
  expect(parseFuseOptions(['allow_root,umask=222']).umask).toBe(0o277);
});

it('mount options: takes several -o and empty parts, and the last one wins', () => {
  expect(parseFuseOptions([])).toEqual(NOTHING);
  expect(parseFuseOptions(['', ',ro,,', 'uid=1', 'uid=2'])).toEqual({ ...NOTHING, readOnly: true, uid: 2 });
});

it.each([
  ['fsname=one\\,two,ro', 'one,two', true],
  ['fsname=back\\\\,ro', 'back\\', true],
  ['fsname=back\\\\\\,slash', 'back\\,slash', false],
  ['fsname=end\\', 'end\\', false],
  ['fsname=ü\\😀', 'ü😀', false],
])('mount options: takes the character after a backslash literally: %s', (text, fsname, readOnly) => {
  expect(parseFuseOptions([text])).toEqual({ ...NOTHING, fsname, readOnly });
});

it('mount options: accepts options of libfuse and fstab that mean nothing here', () => {
  const text =
    'big_writes,no_remote_lock,no_rofd_flush,noforget,remember=3,max_write=65536,relatime,_netdev,x-systemd.automount';
  expect(parseFuseOptions([text])).toEqual(NOTHING);
});

it.each([
  ['frobnicate', /^-o frobnicate: unknown option; nbdfuse --fuse-help lists the known ones$/],
  [
    'remount',
    /^-o remount: nbdfuse cannot change a mount: unmount, and mount again; flags such as ro: mount -o remount,ro DIR$/,
  ],
  ['constructor', /^-o constructor: unknown option/],
  ['noatime=1', /^-o noatime: unknown option/],
  ['allow_other=1', /^-o allow_other: takes no value$/],
  ['fsname=', /^-o fsname=: the name is empty$/],
  ['subtype=', /^-o subtype=: the name is empty$/],
  ['uid', /^-o uid: needs a value: uid=N$/],
  ['uid=', /^-o uid=: must be a number from 0 to 4294967295$/],
  ['uid=root', /^-o uid=root: must be a number/],
  ['uid=-1', /^-o uid=-1: must be a number/],
  ['uid=4294967296', /^-o uid=4294967296: must be a number/],
  ['umask=8', /^-o umask=8: must be an octal number from 0 to 777$/],
  ['umask=1777', /^-o umask=1777: must be an octal number from 0 to 777$/],
  ['max_background=65536', /^-o max_background=65536: must be a number/],
  ['entry_timeout=soon', /^-o entry_timeout=soon: must be a number of seconds$/],
  ['entry_timeout=-1', /^-o entry_timeout=-1: must be a number of seconds$/],
  ['entry_timeout=1e3', /^-o entry_timeout=1e3: must be a number of seconds$/],
  ['allow_other,allow_root', /cannot be used together$/],
])('mount options: refuses -o %s', (text, message) => {
  expect(() => parseFuseOptions([text])).toThrow(message);
});

it('mount options: --fuse-help names every known option', () => {
  const help = fuseOptionsHelp();
  for (const name of [
    'allow_root',
    'umask=M',
    'max_read=N',
    'entry_timeout=SECONDS',
    'noatime',
    'big_writes',
  ]) {
    expect(help).toContain(name);
  }
  expect(help.split('\n').filter((line) => line.startsWith('    -o'))).toHaveLength(25);
  for (const name of HARMLESS_OPTIONS) expect(help).toMatch(new RegExp(`\\b${name}\\b`));
  for (const line of help.split('\n')) expect(line.length, line).toBeLessThanOrEqual(100);
});
