// An image that is only read, as its NBD server offers it.

import { EPERM } from '../../constants/errno.js';
import type { DiskConnection, DiskProperties, ServedDisk } from '../contract/disk.js';
import { UNIT } from '../contract/units.js';
import { ReadError } from '../reader/errors.js';
import type { Reader } from '../reader/reader.js';

/** Maximum bytes of a request: what nbdfuse's worker asks for at once. */
const MAXIMUM = 32 * 1024 * 1024;

/** Properties that all disks of the chunk server have. */
const COMMON = {
  readOnly: true,
  description: undefined,
  blockSizes: { minimum: 1, preferred: UNIT, maximum: MAXIMUM },
  canMultiConn: true,
  canFlush: false,
  canFua: false,
  canTrim: false,
  canZero: false,
  canFastZero: false,
  isRotational: false,
} as const;

const refuse = (): Promise<never> =>
  Promise.reject(new ReadError('the image is read-only', { errno: EPERM }));

/** A part of an image. */
export interface ReadOnlyDiskOptions {
  readonly reader: Reader;
  /** Bytes of the image before the disk. */
  readonly offset: number;
  /** Bytes of the disk. */
  readonly size: number;
}

export function readOnlyDisk({ reader, offset: start, size }: ReadOnlyDiskOptions): ServedDisk {
  const properties: DiskProperties = { ...COMMON, size };
  const connection: DiskConnection = {
    properties,
    read: (offset, length) => reader.read(start + offset, length),
    cache: (offset, length) => reader.use(start + offset, length),
    write: refuse,
    zero: refuse,
    trim: refuse,
    flush: () => Promise.resolve(),
    extents: () => undefined,
    // The reader connects again without help.
    onLost: () => undefined,
    close: () => undefined,
  };
  return { connect: () => Promise.resolve(connection) };
}
