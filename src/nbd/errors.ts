// The kinds of failure that protocol code tells apart, and the map from the wire's errors to Linux's.
//
// Thrown by everything under nbd and caught by whoever drives it. A breach (NbdProtocolError) ends
// the connection; a refusal (NbdServerError) fails what was asked for and nothing else. Text of the
// server is escaped before it becomes part of a message.

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

/** The Linux errno values that protocol code names; nbd imports nothing, so they stand here. */
export const LINUX = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  E2BIG: 7,
  ENOMEM: 12,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EPROTO: 71,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ECONNRESET: 104,
  ESHUTDOWN: 108,
} as const;

/** What is known of a failure besides its message. */
export interface NbdErrorDetails {
  /** A Linux errno that fits the failure. */
  readonly errno?: number;
  readonly cause?: unknown;
}

/** Any failure of talking NBD. `message` is one printable line. */
export class NbdError extends Error {
  /** The class's name. */
  override name = 'NbdError';
  /** A Linux errno that fits the failure, where there is one. */
  readonly errno: number | undefined;

  /** With a message of one line. */
  constructor(message: string, details: NbdErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.errno = details.errno;
  }
}

/** The server broke a rule of the protocol, which the message names. The connection must be closed. */
export class NbdProtocolError extends NbdError {
  /** The class's name. */
  override name = 'NbdProtocolError';

  /** With a message of one line; the errno is EPROTO where nothing fits better. */
  constructor(message: string, details: NbdErrorDetails = {}) {
    super(message, { errno: LINUX.EPROTO, ...details });
  }
}

/** What is known of a server's refusal. */
export interface NbdRefusal extends NbdErrorDetails {
  /** `NBD_OPT_*` that was refused; undefined when the server could not do what was asked at all. */
  readonly option?: number;
  /** `NBD_REP_ERR_*` that it answered. */
  readonly replyType?: number;
  /** What the server said of it, not escaped, at most 4096 bytes; empty when it said nothing. */
  readonly serverText?: string;
}

/** The server refused an option or a command, in keeping with the protocol. */
export class NbdServerError extends NbdError {
  /** The class's name. */
  override name = 'NbdServerError';
  /** `NBD_OPT_*` that was refused, if the refusal was to an option. */
  readonly option: number | undefined;
  /** `NBD_REP_ERR_*` that the server answered, if the refusal was to an option. */
  readonly replyType: number | undefined;
  /** What the server said of it, not escaped, at most 4096 bytes; empty when it said nothing. */
  readonly serverText: string;

  /** With a message of one line; the errno is EIO where nothing fits better. */
  constructor(message: string, refusal: NbdRefusal = {}) {
    super(message, { errno: LINUX.EIO, ...refusal });
    this.option = refusal.option;
    this.replyType = refusal.replyType;
    this.serverText = refusal.serverText ?? '';
  }
}

/**
 * The Linux errno for an error of a reply (proto.md, "Error values"); 0 stays 0. A value that the
 * document does not know counts as `NBD_EINVAL`, as it advises.
 */
export function errnoFromNbd(error: number): number {
  switch (error) {
    case 0:
      return 0;
    case NBD_EPERM:
      return LINUX.EPERM;
    case NBD_EIO:
      return LINUX.EIO;
    case NBD_ENOMEM:
      return LINUX.ENOMEM;
    case NBD_ENOSPC:
      return LINUX.ENOSPC;
    case NBD_EOVERFLOW:
      return LINUX.EOVERFLOW;
    case NBD_ENOTSUP:
      return LINUX.EOPNOTSUPP;
    case NBD_ESHUTDOWN:
      return LINUX.ESHUTDOWN;
    case NBD_EINVAL:
      return LINUX.EINVAL;
    default:
      return LINUX.EINVAL;
  }
}
