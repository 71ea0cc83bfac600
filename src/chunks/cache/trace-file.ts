// The file of --trace: the units that an earlier mount asked for, in their order.
//
// A line that says what it is, and the units as u32, little-endian. A new trace is written over the old one, which is cut
// afterwards: in the sandbox the chunk server cannot make another file and rename it. A file that a kill leaves has
// units of both, and is a trace, too.

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { ENOENT } from '../../constants/errno.js';
import { pathBytes } from '../../linux/path-text.js';
import { DiskFile, errnoOf } from './stored-file.js';

const { O_RDONLY, O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;

const HEAD = Buffer.from('nbdfuse trace 1\n', 'latin1');
/** Bytes of a unit. */
const NUMBER = 4;
/** Most units that are read. */
const MOST_UNITS = 65_536;

/** A file cannot get a trace, and the user must name another one. `message` is one line. */
export class TraceFileError extends Error {
  override name = 'TraceFileError';
}

/** @throws TraceFileError when bytes of a file are not those of a trace */
function checkHead(path: string, bytes: Uint8Array): void {
  if (bytes.length === 0 || HEAD.equals(bytes.subarray(0, HEAD.length))) return;
  throw new TraceFileError(
    `cannot use ${path} as a trace: it has other bytes, which nbdfuse does not overwrite; name a new file`,
  );
}

/** The units of a trace; undefined: there is none yet. @throws TraceFileError for another file; system errors */
export async function readTraceFile(path: string): Promise<Uint32Array | undefined> {
  const handle = await open(pathBytes(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    if (errnoOf(error) === ENOENT) return undefined;
    throw error;
  });
  if (handle === undefined) return undefined;
  try {
    if (!(await handle.stat()).isFile()) throw new TraceFileError(`${path} is not a regular file`);
    const bytes = await new DiskFile(handle).read(0, HEAD.length + MOST_UNITS * NUMBER);
    checkHead(path, bytes);
    const length = Math.max(0, Math.floor((bytes.length - HEAD.length) / NUMBER));
    const units = Uint8Array.from(bytes.subarray(HEAD.length, HEAD.length + length * NUMBER));
    return new Uint32Array(units.buffer);
  } finally {
    await handle.close();
  }
}

/** @throws TraceFileError when another file is there; system errors */
export async function writeTraceFile(path: string, units: Uint32Array): Promise<void> {
  const handle = await open(pathBytes(path), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  try {
    const file = new DiskFile(handle);
    checkHead(path, await file.read(0, HEAD.length));
    const bytes = Buffer.concat([HEAD, new Uint8Array(units.buffer, units.byteOffset, units.byteLength)]);
    await file.write(0, bytes);
    await file.truncate(bytes.length);
  } finally {
    await handle.close();
  }
}
