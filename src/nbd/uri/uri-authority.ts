// The authority of an NBD URI, user@host:port, and percent-decoding for all parts. Pure.
//
// Hosts and users may become arguments of `ssh`, so names that look like options are refused.

import { NbdArgumentError } from '../errors.js';
import { percentDecode } from './percent.js';

/** Largest port of TCP. */
export const MAX_TCP_PORT = 65_535;
/** Largest CID and port of vsock. VMADDR_PORT_ANY and VMADDR_CID_ANY, 2^32-1, cannot be connected to. */
const MAX_VSOCK_NUMBER = 0xfffffffe;

/** The decoded parts of user@host:port. */
export interface Authority {
  readonly user: string | undefined;
  /** Without brackets; may be empty. */
  readonly host: string;
  readonly port: number | undefined;
}

function invalid(why: string): NbdArgumentError {
  return new NbdArgumentError(why);
}

/** Parses a decimal number from `smallest` (0 or 1) to `largest`. @throws NbdArgumentError */
export function parseNumber(text: string, smallest: number, largest: number, what: string): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= smallest && value <= largest)) {
    throw invalid(`${what} must be a number from ${smallest} to ${largest}`);
  }
  return value;
}

function parseUser(text: string): string {
  const user = percentDecode(text, 'the user name');
  if (user.startsWith('-') || /\p{Cc}/u.test(user)) throw invalid('the user name is invalid');
  return user;
}

function parseHost(text: string): string {
  if (text.startsWith('[')) {
    const address = text.slice(1, -1).replace('%25', '%');
    if (!/^[0-9a-f:.]*:[0-9a-f:.]*(%[\w.-]+)?$/i.test(address))
      throw invalid('the text in [ ] is not an IPv6 address');
    return address;
  }
  const host = percentDecode(text, 'the host');
  if (host.startsWith('-') || /[\s\p{Cc}/?#@[\]]/u.test(host)) throw invalid('the host name is invalid');
  return host;
}

/**
 * Parses an authority. With vsock the host is a CID, and ports go up to 2^32-2.
 * @throws NbdArgumentError if a part is invalid
 */
export function parseHostAndPort(authority: string, transport: string): Authority {
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : parseUser(authority.slice(0, at));
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::([^:]*))?$/.exec(authority.slice(at + 1));
  if (match === null) throw invalid('host and port are ambiguous (write an IPv6 address in [ ])');
  const [, hostText, portText = ''] = match;
  const vsock = transport === 'vsock';
  const host = parseHost(hostText);
  if (vsock && host !== '') parseNumber(host, 0, MAX_VSOCK_NUMBER, 'the CID');
  const port =
    portText === ''
      ? undefined
      : parseNumber(portText, 1, vsock ? MAX_VSOCK_NUMBER : MAX_TCP_PORT, 'the port');
  return { user, host, port };
}
