// The errors of requests that a lost connection concerns. docs/reference/library.md lists their codes.

import { EIO, ENOTCONN } from '../constants/errno.js';
import { NbdError } from '../nbd/errors.js';
import { commandName } from '../nbd/names.js';
import type { Command } from './pending-command.js';

const bytesOf = ({ offset, length }: Command): string => `bytes ${offset} to ${offset + BigInt(length)}`;

/** The error of a lost connection. */
export function lostConnection(why: string, cause?: unknown): NbdError {
  return new NbdError(`the connection to the server was lost: ${why}`, { errno: ENOTCONN, cause });
}

/** A change was sent, and its connection is lost. */
export function unknownChange(command: Command, cause: NbdError): NbdError {
  const what = `${commandName(command.type)} of ${bytesOf(command)} may or may not have been made`;
  return new NbdError(`${what}: ${cause.message}`, {
    errno: ENOTCONN,
    code: 'ERR_NBD_CHANGE_UNKNOWN',
    cause,
  });
}

/** A change was not sent, since an older one of the same bytes may still be made. */
export function rangeInDoubt(command: Command): NbdError {
  const what = `${commandName(command.type)} of ${bytesOf(command)} was not sent`;
  return new NbdError(`${what}: a lost connection may still change these bytes`, {
    errno: EIO,
    code: 'ERR_NBD_RANGE_IN_DOUBT',
  });
}

/** A restarted server may have forgotten changes that were answered and not flushed. */
export function unflushedLost(): NbdError {
  return new NbdError('a connection was lost: the server may have forgotten changes made before', {
    errno: EIO,
    code: 'ERR_NBD_UNFLUSHED_LOST',
  });
}

/** Requests have waited long enough for a server. */
export function noServer(seconds: number, why: string): NbdError {
  const waited = seconds > 0 ? `no server for ${seconds} s` : 'no server';
  return new NbdError(`${waited}: ${why}`, { errno: ENOTCONN, code: 'ERR_NBD_NO_SERVER' });
}
