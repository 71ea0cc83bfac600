// Numbers of the kernel's FUSE protocol, spelled as in <linux/fuse.h>.

export const FUSE_KERNEL_VERSION = 7;
export const FUSE_KERNEL_MINOR_VERSION = 38;
export const FUSE_ROOT_ID = 1;

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_MKNOD = 8;
export const FUSE_MKDIR = 9;
export const FUSE_UNLINK = 10;
export const FUSE_RMDIR = 11;
export const FUSE_RENAME = 12;
export const FUSE_LINK = 13;
export const FUSE_SYMLINK = 6;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_SETXATTR = 21;
export const FUSE_GETXATTR = 22;
export const FUSE_LISTXATTR = 23;
export const FUSE_REMOVEXATTR = 24;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_OPENDIR = 27;
export const FUSE_READDIR = 28;
export const FUSE_RELEASEDIR = 29;
export const FUSE_FSYNCDIR = 30;
export const FUSE_ACCESS = 34;
export const FUSE_CREATE = 35;
export const FUSE_INTERRUPT = 36;
export const FUSE_DESTROY = 38;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_READDIRPLUS = 44;
export const FUSE_RENAME2 = 45;
export const FUSE_LSEEK = 46;
export const FUSE_SYNCFS = 50;
export const FUSE_TMPFILE = 51;
export const FUSE_STATX = 52;

/** Flag of GETATTR: the kernel asks on behalf of a file handle, for a read or a write, and not for stat(2). */
export const FUSE_GETATTR_FH = 1 << 0;

/** Message to the kernel: the attributes or pages of a file are out of date. */
export const FUSE_NOTIFY_INVAL_INODE = 2;

export const FUSE_ASYNC_READ = 1 << 0;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_DO_READDIRPLUS = 1 << 13;
export const FUSE_READDIRPLUS_AUTO = 1 << 14;
export const FUSE_ASYNC_DIO = 1 << 15;
export const FUSE_WRITEBACK_CACHE = 1 << 16;
export const FUSE_PARALLEL_DIROPS = 1 << 18;
export const FUSE_MAX_PAGES = 1 << 22;
export const FUSE_EXPLICIT_INVAL_DATA = 1 << 25;
export const FUSE_HANDLE_KILLPRIV_V2 = 1 << 28;
export const FUSE_INIT_EXT = 1 << 30;
/** Bit 36 of the flags: bit 4 of `flags2` (kernel 6.6; newer than Debian 12's header). */
export const FUSE_DIRECT_IO_ALLOW_MMAP_2 = 1 << 4;
/** Bit 37 of the flags: bit 5 of `flags2` (kernel 6.9). */
export const FUSE_PASSTHROUGH_2 = 1 << 5;

export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_FH = 1 << 6;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_CTIME = 1 << 10;
export const FATTR_KILL_SUIDGID = 1 << 11;

export const FUSE_WRITE_CACHE = 1 << 0;
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;

export const FOPEN_DIRECT_IO = 1 << 0;
export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_CACHE_DIR = 1 << 3;
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;
/** The kernel reads the file whose id is in the reply. No flag may come with it but those for direct I/O. */
export const FOPEN_PASSTHROUGH = 1 << 7;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** The name of an opcode, for traces. */
export function opcodeName(opcode: number): string {
  return OPCODE_NAMES[opcode] ?? `FUSE_${opcode}`;
}

const OPCODE_NAMES: Readonly<Record<number, string>> = {
  [FUSE_LOOKUP]: 'FUSE_LOOKUP',
  [FUSE_FORGET]: 'FUSE_FORGET',
  [FUSE_GETATTR]: 'FUSE_GETATTR',
  [FUSE_SETATTR]: 'FUSE_SETATTR',
  [FUSE_SYMLINK]: 'FUSE_SYMLINK',
  [FUSE_MKNOD]: 'FUSE_MKNOD',
  [FUSE_MKDIR]: 'FUSE_MKDIR',
  [FUSE_UNLINK]: 'FUSE_UNLINK',
  [FUSE_RMDIR]: 'FUSE_RMDIR',
  [FUSE_RENAME]: 'FUSE_RENAME',
  [FUSE_LINK]: 'FUSE_LINK',
  [FUSE_OPEN]: 'FUSE_OPEN',
  [FUSE_READ]: 'FUSE_READ',
  [FUSE_WRITE]: 'FUSE_WRITE',
  [FUSE_STATFS]: 'FUSE_STATFS',
  [FUSE_RELEASE]: 'FUSE_RELEASE',
  [FUSE_FSYNC]: 'FUSE_FSYNC',
  [FUSE_SETXATTR]: 'FUSE_SETXATTR',
  [FUSE_GETXATTR]: 'FUSE_GETXATTR',
  [FUSE_LISTXATTR]: 'FUSE_LISTXATTR',
  [FUSE_REMOVEXATTR]: 'FUSE_REMOVEXATTR',
  [FUSE_FLUSH]: 'FUSE_FLUSH',
  [FUSE_INIT]: 'FUSE_INIT',
  [FUSE_OPENDIR]: 'FUSE_OPENDIR',
  [FUSE_READDIR]: 'FUSE_READDIR',
  [FUSE_RELEASEDIR]: 'FUSE_RELEASEDIR',
  [FUSE_FSYNCDIR]: 'FUSE_FSYNCDIR',
  [FUSE_ACCESS]: 'FUSE_ACCESS',
  [FUSE_CREATE]: 'FUSE_CREATE',
  [FUSE_INTERRUPT]: 'FUSE_INTERRUPT',
  [FUSE_DESTROY]: 'FUSE_DESTROY',
  [FUSE_BATCH_FORGET]: 'FUSE_BATCH_FORGET',
  [FUSE_FALLOCATE]: 'FUSE_FALLOCATE',
  [FUSE_READDIRPLUS]: 'FUSE_READDIRPLUS',
  [FUSE_RENAME2]: 'FUSE_RENAME2',
  [FUSE_LSEEK]: 'FUSE_LSEEK',
  [FUSE_SYNCFS]: 'FUSE_SYNCFS',
  [FUSE_TMPFILE]: 'FUSE_TMPFILE',
  [FUSE_STATX]: 'FUSE_STATX',
};
