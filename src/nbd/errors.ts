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
  ENOTCONN,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  EPROTO,
  EROFS,
  ESHUTDOWN,
} from '../constants/errno.js';
import { errnoName } from '../constants/errno-names.js';
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
  /** See NbdError. */
  readonly code?: string;
}

/** Base class of the library's errors. `message` is one printable line. */
export class NbdError extends Error {
  /** The class's name. */
  override name = 'NbdError';
  /** The Linux errno of the failure; undefined where none fits. */
  readonly errno: number | undefined;
  /**
   * The name of the errno, such as `ENOSPC`. Wrong arguments have Node's `ERR_INVALID_ARG_TYPE`,
   * `ERR_INVALID_ARG_VALUE` or `ERR_OUT_OF_RANGE`, a closed client has `ERR_NBD_CLOSED`, and an error without errno
   * `ERR_NBD`. After a lost connection there are `ERR_NBD_CHANGE_UNKNOWN`, `ERR_NBD_RANGE_IN_DOUBT`,
   * `ERR_NBD_UNFLUSHED_LOST` and `ERR_NBD_NO_SERVER`.
   */
  readonly code: string;

  /** Makes the error. @param message one printable line */
  constructor(message: string, details: NbdErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    const { errno, code } = details;
    this.errno = errno;
    this.code = code ?? (errno === undefined ? 'ERR_NBD' : errnoName(errno));
  }
}

/** The caller passed a wrong argument, and nothing was sent. The errno is EINVAL; `code` is as in Node's own functions. */
export class NbdArgumentError extends NbdError {
  /** The class's name. */
  override name = 'NbdArgumentError';

  /** Makes the error. @param message one printable line. The default code is `ERR_INVALID_ARG_VALUE`. */
  constructor(message: string, details: Omit<NbdErrorDetails, 'errno'> = {}) {
    super(message, { code: 'ERR_INVALID_ARG_VALUE', ...details, errno: EINVAL });
  }
}

/** The client was used after `close`. The errno is ENOTCONN, and the code `ERR_NBD_CLOSED`. */
export class NbdClosedError extends NbdError {
  /** The class's name. */
  override name = 'NbdClosedError';

  /** Makes the error. */
  constructor(message = 'the client is closed') {
    super(message, { errno: ENOTCONN, code: 'ERR_NBD_CLOSED' });
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
