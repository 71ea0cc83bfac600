// Byte offsets of the fields in the kernel's messages, struct fuse_* of <linux/fuse.h>.
//
// Numbers are in host byte order: HOST_ENDIAN is the last argument of DataView's methods. Offsets count from the first
// byte of the message, header included.

/** Whether the host is little-endian. */
export const HOST_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

const LOW = HOST_ENDIAN ? 0 : 4;

/** `fuse_in_header`: 40 bytes before every request. */
export const IN_HEADER = 40;
export const IN_LEN = 0;
export const IN_OPCODE = 4;
export const IN_UNIQUE_LO = 8 + LOW;
export const IN_UNIQUE_HI = 8 + 4 - LOW;
export const IN_NODEID_LO = 16 + LOW;
export const IN_NODEID_HI = 16 + 4 - LOW;
export const IN_UID = 24;
export const IN_GID = 28;
export const IN_PID = 32;

/** `fuse_out_header`: 16 bytes before every reply. */
export const OUT_HEADER = 16;

/** Fields of `fuse_read_in`, and the same ones of `fuse_write_in`. */
export const IO_OFFSET_LO = IN_HEADER + 8 + LOW;
export const IO_OFFSET_HI = IN_HEADER + 8 + 4 - LOW;
export const IO_SIZE = IN_HEADER + 16;
/** `write_flags` of a WRITE. */
export const WRITE_FLAGS = IN_HEADER + 20;
export const IO_FLAGS = IN_HEADER + 32;

/** Offset of the data of a FUSE_WRITE. */
export const WRITE_DATA = IN_HEADER + 40;

/** `fh` of a READ, WRITE, FSYNC or RELEASE. */
export const FILE_HANDLE = IN_HEADER;

export const FALLOCATE_OFFSET = IN_HEADER + 8;
export const FALLOCATE_LENGTH = IN_HEADER + 16;
export const FALLOCATE_MODE = IN_HEADER + 24;

export const LSEEK_OFFSET = IN_HEADER + 8;
export const LSEEK_WHENCE = IN_HEADER + 16;

export const SETATTR_VALID = IN_HEADER;
export const SETATTR_SIZE = IN_HEADER + 16;
export const SETATTR_ATIME = IN_HEADER + 32;
export const SETATTR_MTIME = IN_HEADER + 40;
export const SETATTR_ATIMENSEC = IN_HEADER + 56;
export const SETATTR_MTIMENSEC = IN_HEADER + 60;
export const SETATTR_MODE = IN_HEADER + 68;
export const SETATTR_UID = IN_HEADER + 76;
export const SETATTR_GID = IN_HEADER + 80;

export const GETATTR_FLAGS = IN_HEADER;
export const OPEN_FLAGS = IN_HEADER;
/** `fuse_forget_in`, and the entries of a `fuse_batch_forget_in`: pairs of node id and count, 64 bits each. */
export const FORGET_COUNT_LO = IN_HEADER + LOW;
export const BATCH_FORGET_COUNT = IN_HEADER;
export const BATCH_FORGET_ENTRIES = IN_HEADER + 8;
export const BATCH_FORGET_NODEID_LO = LOW;
export const BATCH_FORGET_COUNT_LO = 8 + LOW;
export const BATCH_FORGET_ENTRY = 16;
export const RELEASE_FLAGS = IN_HEADER + 8;
export const ACCESS_MASK = IN_HEADER;
export const GETXATTR_SIZE = IN_HEADER;
export const GETXATTR_NAME = IN_HEADER + 8;
export const INTERRUPT_UNIQUE_LO = IN_HEADER + LOW;
export const INTERRUPT_UNIQUE_HI = IN_HEADER + 4 - LOW;

export const INIT_MAJOR = IN_HEADER;
export const INIT_MINOR = IN_HEADER + 4;
export const INIT_MAX_READAHEAD = IN_HEADER + 8;
export const INIT_FLAGS = IN_HEADER + 12;
export const INIT_FLAGS2 = IN_HEADER + 16;
