// The options of -o: those of mount.fuse3(8) and libfuse that apply here.
//
// A table for options.ts, which parses -o and prints the help. Pure.

import { MountError } from './errors.js';

/** The parsed options of -o. */
export interface FuseOptions {
  allowOther: boolean;
  allowRoot: boolean;
  autoUnmount: boolean;
  readOnly: boolean;
  nonempty: boolean;
  uid?: number;
  gid?: number;
  /** Permission bits to take away; with `allowRoot` all those of group and others. */
  umask?: number;
  fsname?: string;
  subtype?: string;
  /** Maximum bytes of one READ; undefined: no limit. */
  maxRead?: number;
  /** Drop a file's cached pages at each open. */
  autoCache: boolean;
  directIo: boolean;
  asyncRead: boolean;
  maxBackground?: number;
  congestionThreshold?: number;
  /** Bytes. */
  maxReadahead?: number;
  /** Seconds for which the kernel may believe names, attributes, and the absence of names. */
  entryTimeout?: number;
  attributeTimeout?: number;
  negativeTimeout?: number;
  /** Options of any mount, such as `noatime`, by their names in mount(8). */
  mountFlags: string[];
}

/** One option: its syntax, its effect, and its text in the help. */
export interface KnownOption {
  readonly name: string;
  /** The name of its value in the help; undefined: it takes no value. */
  readonly value?: string;
  readonly text: string;
  readonly apply: (options: FuseOptions, value: string) => void;
}

function numberOf(name: string, base: number, most: number): (value: string) => number {
  const kind = base === 8 ? 'an octal number' : 'a number';
  return (value) => {
    const digits = base === 8 ? /^[0-7]+$/ : /^[0-9]+$/;
    const number = Number.parseInt(value, base);
    if (!digits.test(value) || number > most)
      throw new MountError(`-o ${name}=${value}: must be ${kind} from 0 to ${most.toString(base)}`);
    return number;
  };
}

function secondsOf(name: string): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^[0-9]*\.?[0-9]+$/.test(value) || number > 2 ** 31) {
      throw new MountError(`-o ${name}=${value}: must be a number of seconds`);
    }
    return number;
  };
}

const U32 = 2 ** 32 - 1;

function flag(name: string, text: string, apply: (options: FuseOptions) => void): KnownOption {
  return { name, text, apply };
}

function count(
  name: string,
  text: string,
  most: number,
  apply: (options: FuseOptions, value: number) => void,
): KnownOption {
  const read = numberOf(name, 10, most);
  return { name, value: 'N', text, apply: (options, value) => apply(options, read(value)) };
}

function seconds(
  name: string,
  text: string,
  apply: (options: FuseOptions, value: number) => void,
): KnownOption {
  const read = secondsOf(name);
  return { name, value: 'SECONDS', text, apply: (options, value) => apply(options, read(value)) };
}

const readUmask = numberOf('umask', 8, 0o777);

/** The options that do something, in the order of the help. */
export const KNOWN_OPTIONS: readonly KnownOption[] = [
  flag('allow_other', 'let other users use the file', (o) => {
    o.allowOther = true;
  }),
  flag('allow_root', 'let root use the file, but no other users', (o) => {
    o.allowRoot = true;
  }),
  flag('auto_unmount', 'unmount when nbdfuse exits, even if it is killed', (o) => {
    o.autoUnmount = true;
  }),
  flag('default_permissions', 'check permission bits (always on)', () => {}),
  flag('ro', 'read-only', (o) => {
    o.readOnly = true;
  }),
  flag('rw', 'writable where the export is (default)', (o) => {
    o.readOnly = false;
  }),
  count('uid', 'owner of the file', U32, (o, value) => {
    o.uid = value;
  }),
  count('gid', 'group of the file', U32, (o, value) => {
    o.gid = value;
  }),
  {
    name: 'umask',
    value: 'M',
    text: 'permission bits to clear (octal)',
    apply: (o, value) => {
      o.umask = readUmask(value);
    },
  },
  {
    name: 'fsname',
    value: 'NAME',
    text: 'source in the mount table (default: nbdfuse)',
    apply: (o, value) => {
      o.fsname = value;
    },
  },
  {
    name: 'subtype',
    value: 'NAME',
    text: 'type in the mount table: fuse.NAME (default: nbdfuse)',
    apply: (o, value) => {
      o.subtype = value;
    },
  },
  count('max_read', 'maximum bytes of one read request (0: no limit)', U32, (o, value) => {
    o.maxRead = value === 0 ? undefined : value;
  }),
  flag('nonempty', 'allow a mountpoint that has files in it (always on)', (o) => {
    o.nonempty = true;
  }),
  flag('kernel_cache', 'keep cached pages when the file is opened (default)', (o) => {
    o.autoCache = false;
  }),
  flag('auto_cache', 'drop cached pages when the file is opened', (o) => {
    o.autoCache = true;
  }),
  flag('noauto_cache', 'the opposite of auto_cache', (o) => {
    o.autoCache = false;
  }),
  flag('direct_io', 'bypass the page cache; same as --cache=none', (o) => {
    o.directIo = true;
  }),
  flag('async_read', 'send several read requests at a time (default)', (o) => {
    o.asyncRead = true;
  }),
  flag('sync_read', 'send one read request at a time', (o) => {
    o.asyncRead = false;
  }),
  count('max_background', 'maximum number of background requests', 65_535, (o, value) => {
    o.maxBackground = value;
  }),
  count('congestion_threshold', 'background requests at which the kernel slows down', 65_535, (o, value) => {
    o.congestionThreshold = value;
  }),
  count('max_readahead', 'maximum bytes that the kernel reads ahead', U32, (o, value) => {
    o.maxReadahead = value;
  }),
  seconds('entry_timeout', 'how long the kernel remembers names', (o, value) => {
    o.entryTimeout = value;
  }),
  seconds('attr_timeout', 'how long the kernel remembers attributes', (o, value) => {
    o.attributeTimeout = value;
  }),
  seconds('negative_timeout', 'how long the kernel remembers that a name is missing', (o, value) => {
    o.negativeTimeout = value;
  }),
];

/** Options of every mount, with their flags of mount(2). Opposites cancel each other. */
export const MOUNT_FLAGS: Readonly<Record<string, { readonly bit: number; readonly set: boolean }>> = {
  nosuid: { bit: 2, set: true },
  suid: { bit: 2, set: false },
  nodev: { bit: 4, set: true },
  dev: { bit: 4, set: false },
  noexec: { bit: 8, set: true },
  exec: { bit: 8, set: false },
  sync: { bit: 16, set: true },
  async: { bit: 16, set: false },
  dirsync: { bit: 128, set: true },
  noatime: { bit: 1024, set: true },
  atime: { bit: 1024, set: false },
};

/**
 * Options of libfuse or mount(8) that have no effect here: about libfuse's buffers and threads, inode
 * numbers, locks (which the kernel handles), interrupts, and /etc/fstab.
 */
export const HARMLESS_OPTIONS: readonly string[] = [
  ...['ac_attr_timeout', 'atomic_o_trunc', 'auto', 'big_writes', 'clone_fd', 'debug', 'defaults'],
  ...['diratime', 'hard_remove', 'intr', 'intr_signal', 'large_read', 'lazytime', 'max_idle_threads'],
  ...[
    'max_threads',
    'max_write',
    'no_remote_flock',
    'no_remote_lock',
    'no_remote_posix_lock',
    'no_rofd_flush',
  ],
  ...['no_splice_move', 'no_splice_read', 'no_splice_write', 'noauto', 'nodiratime', 'nofail'],
  ...['noforget', 'nolazytime', 'norelatime', 'nouser', 'readdir_ino', 'relatime', 'remember'],
  ...['splice_move', 'splice_read', 'splice_write', 'strictatime', 'use_ino', 'user', 'users', '_netdev'],
];
