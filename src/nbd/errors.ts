// The errors of the protocol code, and the map from NBD errors to Linux errnos.
//
// A protocol violation (NbdProtocolError) ends the connection; a refusal (NbdServerError) fails one request only.
// Text of the server is escaped in messages.

import {
  EACCES,
  EFBIG,
  EINVAL,
  EIO,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  EPROTO,
  EROFS,
  ESHUTDOWN,
} from '../constants/errno.js';
import {
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from './constants.js';

/** Details of a failure. */
export interface NbdErrorDetails {
  /** The Linux errno of the failure. */
  readonly errno?: number;
  readonly cause?: unknown;
}

/** Base class of the library's errors. `message` is one printable line. */
export class NbdError extends Error {
  /** The class's name. */
  override name = 'NbdError';
  /** The Linux errno of the failure; undefined where none fits. */
  readonly errno: number | undefined;

  /** Makes the error. @param message one printable line */
  constructor(message: string, details: NbdErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.errno = details.errno;
  }
}

/** The server violated the protocol; the message names the rule. The connection must be closed. */
export class NbdProtocolError extends NbdError {
  /** The class's name. */
  override name = 'NbdProtocolError';

  /** Makes the error. @param message one printable line. The default errno is EPROTO. */
  constructor(message: string, details: NbdErrorDetails = {}) {
    super(message, { errno: EPROTO, ...details });
  }
}

/** Details of a refusal. */
export interface NbdRefusal extends NbdErrorDetails {
  /** The refused `NBD_OPT_*`; undefined if the server cannot do the request at all. */
  readonly option?: number;
  /** The server's `NBD_REP_ERR_*`. */
  readonly replyType?: number;
  /** The server's text, not escaped, at most 4096 bytes; may be empty. */
  readonly serverText?: string;
}

/** The server refused an option or a command, as the protocol allows. */
export class NbdServerError extends NbdError {
  /** The class's name. */
  override name = 'NbdServerError';
  /** The refused `NBD_OPT_*`; undefined for a command. */
  readonly option: number | undefined;
  /** The server's `NBD_REP_ERR_*`; undefined for a command. */
  readonly replyType: number | undefined;
  /** The server's text, not escaped, at most 4096 bytes; may be empty. */
  readonly serverText: string;

  /** Makes the error. @param message one printable line. The default errno is EIO. */
  constructor(message: string, refusal: NbdRefusal = {}) {
    super(message, { errno: EIO, ...refusal });
    this.option = refusal.option;
    this.replyType = refusal.replyType;
    this.serverText = refusal.serverText ?? '';
  }
}

/**
 * The Linux errno for the error of a reply (proto.md, "Error values"); 0 for 0. An unknown error counts as
 * `NBD_EINVAL`, as the specification advises.
 */
export function errnoFromNbd(error: number): number {
  switch (error) {
    case 0:
      return 0;
    case NBD_EPERM:
      return EPERM;
    case NBD_EIO:
      return EIO;
    case NBD_ENOMEM:
      return ENOMEM;
    case NBD_ENOSPC:
      return ENOSPC;
    case NBD_EOVERFLOW:
      return EOVERFLOW;
    case NBD_ENOTSUP:
      return EOPNOTSUPP;
    case NBD_ESHUTDOWN:
      return ESHUTDOWN;
    case NBD_EINVAL:
      return EINVAL;
    default:
      return EINVAL;
  }
}

/** The error of a reply (proto.md, "Error values") for a Linux errno; an errno without one becomes `NBD_EIO`. */
export function nbdFromErrno(errno: number): number {
  switch (errno) {
    case EPERM:
    case EACCES:
    case EROFS:
      return NBD_EPERM;
    case ENOMEM:
      return NBD_ENOMEM;
    case ENOSPC:
    case EFBIG:
      return NBD_ENOSPC;
    case EOVERFLOW:
      return NBD_EOVERFLOW;
    case EOPNOTSUPP:
      return NBD_ENOTSUP;
    case ESHUTDOWN:
      return NBD_ESHUTDOWN;
    case EINVAL:
      return NBD_EINVAL;
    default:
      return NBD_EIO;
  }
}

/**
 * Whether a server's error means that it is shutting down: its client sends no new command on the connection, and then
 * NBD_CMD_DISC (proto.md, "Terminating the transmission phase").
 */
export function mustDisconnect(error: number): boolean {
  return error === NBD_ESHUTDOWN;
}
