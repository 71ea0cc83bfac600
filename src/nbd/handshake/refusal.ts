// Turns a server's refusal of an option into an error with the reason and the next step. Pure.

import { E2BIG, EINVAL, EIO, ENOENT, EOPNOTSUPP, EPERM, ESHUTDOWN } from '../../constants/errno.js';
import * as c from '../constants.js';
import { NbdProtocolError, NbdServerError } from '../errors.js';
import { optionName, optionReplyName } from '../names.js';
import { printable } from '../text.js';

/** A final error reply to an option. */
export interface Refusal {
  readonly option: number;
  /** `NBD_REP_ERR_*`. */
  readonly replyType: number;
  /** The server's text, not escaped, at most 4096 bytes. */
  readonly serverText: string;
}

interface Meaning {
  readonly errno: number;
  readonly why: string;
}

const MEANINGS: ReadonlyMap<number, Meaning> = new Map([
  [c.NBD_REP_ERR_UNSUP, { errno: EOPNOTSUPP, why: 'the server does not support it' }],
  [c.NBD_REP_ERR_POLICY, { errno: EPERM, why: "the server's policy forbids it" }],
  [c.NBD_REP_ERR_INVALID, { errno: EINVAL, why: 'the server considers it invalid' }],
  [c.NBD_REP_ERR_PLATFORM, { errno: EOPNOTSUPP, why: "the server's platform does not support it" }],
  [c.NBD_REP_ERR_TLS_REQD, { errno: EPERM, why: 'the server requires TLS; use an nbds:// URI' }],
  [c.NBD_REP_ERR_UNKNOWN, { errno: ENOENT, why: 'the server has no such export' }],
  [c.NBD_REP_ERR_SHUTDOWN, { errno: ESHUTDOWN, why: 'the server is shutting down' }],
  [
    c.NBD_REP_ERR_BLOCK_SIZE_REQD,
    { errno: EINVAL, why: 'the server requires clients to keep to its block sizes' },
  ],
  [c.NBD_REP_ERR_TOO_BIG, { errno: E2BIG, why: 'the server considers it too big' }],
  [c.NBD_REP_ERR_EXT_HEADER_REQD, { errno: EINVAL, why: 'the server requires extended headers' }],
]);

/** The error for a refusal that ends the handshake. @param what the failed request, for people */
export function refusalError(what: string, refusal: Refusal): NbdServerError {
  const { option, replyType, serverText } = refusal;
  const meaning = MEANINGS.get(replyType) ?? { errno: EIO, why: 'the server refused it' };
  const said = serverText === '' ? '' : `; the server says: ${printable(serverText)}`;
  const message = `${what}: ${meaning.why} (${optionName(option)}: ${optionReplyName(replyType)})${said}`;
  return new NbdServerError(message, { option, replyType, serverText, errno: meaning.errno });
}

/**
 * Throws for refusals that end every handshake: the server is shutting down, after which the client must leave
 * (proto.md, "Termination of the session during option haggling"), or it requires TLS although TLS is in use, which
 * violates the protocol.
 */
export function checkFatalRefusal(what: string, refusal: Refusal, encrypted: boolean): void {
  if (refusal.replyType === c.NBD_REP_ERR_SHUTDOWN) throw refusalError(what, refusal);
  if (refusal.replyType === c.NBD_REP_ERR_TLS_REQD && encrypted) {
    throw new NbdProtocolError(
      'the server sent NBD_REP_ERR_TLS_REQD although TLS is in use (proto.md, "TLS support")',
    );
  }
}
