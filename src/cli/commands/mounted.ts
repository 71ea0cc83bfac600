// The files of an nbdfuse mount, with their status.
//
// Used by --status and --unmount. The status comes from the process that serves the mount, through an extended
// attribute, so it is available while the server is away.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ENODATA, ENOTCONN, EOPNOTSUPP } from '../../constants/errno.js';
import { errnoText, SystemError } from '../../linux/errno.js';
import { openPath, using } from '../../linux/path.js';
import { readAttribute } from '../../linux/xattr.js';
import { answers, PATIENCE } from '../../mount/probe.js';
import { printable } from '../../nbd/text.js';
import { reasonOf } from '../../transport/errors.js';
import type { Status } from '../../worker/contract/status.js';
import { parseStatus } from './status-shape.js';

/** A file of a mount. */
export interface MountedFile {
  readonly path: string;
  readonly status: Status;
}

function failure(path: string, error: unknown): Error {
  const name = printable(path);
  if (!(error instanceof SystemError)) return error instanceof Error ? error : new Error(String(error));
  const unknown = [ENODATA, EOPNOTSUPP].includes(error.errno);
  if (unknown)
    return new Error(
      `cannot read the status of ${name}: it is not a file of nbdfuse, or fuse-native serves it`,
    );
  const what = `cannot read the status of ${name}: ${errnoText(error.errno)}`;
  return error.errno === ENOTCONN ? new ServerGoneError(`${what};`) : new Error(what);
}

/** The mount exists, but its process has ended. */
export class ServerGoneError extends Error {
  override name = 'ServerGoneError';

  /** @param what ends with a colon or semicolon */
  constructor(what: string) {
    super(`${what} its nbdfuse is gone, unmount it with nbdfuse --unmount`);
  }
}

/** @param through a path to the file at `path` */
function statusOf(through: string, path: string): Status {
  let text: string;
  try {
    text = readAttribute(through, 'user.nbd.status').toString();
  } catch (error) {
    throw failure(path, error);
  }
  const status = parseStatus(text);
  if (status !== undefined) return status;
  throw new Error(
    `cannot read the status of ${printable(path)}: this version of nbdfuse does not know its format`,
  );
}

/** The mount exists, but its process does not answer. */
export class NoAnswerError extends Error {
  override name = 'NoAnswerError';
}

/** @throws NoAnswerError when a call on the file system at `path` would wait */
export async function refuseFrozen(path: string): Promise<void> {
  if (await answers(path)) return;
  const shown = printable(path);
  throw new NoAnswerError(
    `${shown} does not answer in ${PATIENCE / 1000} s: its process is stopped or hangs; ` +
      `let it continue (kill -CONT PID), or detach the mount: fusermount3 -u -z ${shown}`,
  );
}

function unreachable(path: string, error: NodeJS.ErrnoException): Error {
  const name = printable(path);
  return error.code === 'ENOTCONN'
    ? new ServerGoneError(`${name}:`)
    : new Error(`${name}: ${reasonOf(error)}`);
}

/** The files at MOUNTPOINT: all files of a directory, or the file itself. @throws NoAnswerError, Error: one line each */
export async function mountedFiles(mountpoint: string): Promise<readonly MountedFile[]> {
  await refuseFrozen(mountpoint);
  const descriptor = await openPath(mountpoint, { follow: true }).catch((error) => {
    throw unreachable(mountpoint, error);
  });
  return using(descriptor, async (through) => {
    const found = await stat(through).catch((error) => {
      throw unreachable(mountpoint, error);
    });
    if (!found.isDirectory()) return [{ path: mountpoint, status: statusOf(through, mountpoint) }];
    const names = await readdir(through).catch((error) => {
      throw unreachable(mountpoint, error);
    });
    if (names.length === 0) throw new Error(`nothing is mounted at ${printable(mountpoint)}`);
    return names.map((name) => {
      const path = join(mountpoint, name);
      return { path, status: statusOf(`${through}/${name}`, path) };
    });
  });
}
