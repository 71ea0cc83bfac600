// NBD URIs (doc/uri.md of the NBD project, and libnbd's additional transports).
//
// The text may come from a stranger. Pure: resolves no name and opens no file. An invalid or misleading URI gets an
// error of one line that says what to write instead.

import { NBD_DEFAULT_PORT } from '../constants.js';
import { NbdArgumentError, NbdError } from '../errors.js';
import { checkExportName } from '../handshake/option-messages.js';
import { printable } from '../text.js';
import { percentDecodeName, percentEncode } from './percent.js';
import { parseHostAndPort } from './uri-authority.js';
import { parseQuery, type UriParameters } from './uri-query.js';

export type NbdTransport = 'tcp' | 'unix' | 'vsock' | 'ssh';

/** A parsed NBD URI, decoded. */
export interface NbdUri {
  /** Whether TLS is required: `nbds…`. */
  readonly tls: boolean;
  /** The transport to the server. */
  readonly transport: NbdTransport;
  /**
   * tcp and ssh: name or address, an IPv6 address without brackets (default `localhost`). vsock: the CID in decimal
   * (default `2`, the host of a virtual machine). unix: empty.
   */
  readonly host: string;
  /** Port of the NBD server, 1 to 65535 (vsock: to 4294967294); default 10809. Unused with a socket. */
  readonly port: number;
  /** unix: path of the socket; an abstract name begins with NUL. ssh: path of the socket on the remote host. */
  readonly socket?: string;
  /** The export name, decoded; empty for the default export. */
  readonly exportName: string;
  /** The TLS user name; with ssh the login name. */
  readonly user?: string;
  /** ssh: the port of the ssh server; undefined: the default. */
  readonly sshPort?: number;
  /** Parameter `tls-type`. */
  readonly tlsType?: 'anon' | 'x509' | 'psk';
  /** Parameter `tls-certificates`: path of a directory. */
  readonly tlsCertificates?: string;
  /** Parameter `tls-psk-file`: path of a key file. */
  readonly tlsPskFile?: string;
  /** Parameter `tls-hostname`. */
  readonly tlsHostname?: string;
  /** Parameter `tls-username`. */
  readonly tlsUsername?: string;
  /** Parameter `tls-verify-peer`. */
  readonly tlsVerifyPeer?: boolean;
  /** Names of unknown parameters, decoded, not escaped. */
  readonly unknownParameters: readonly string[];
}

const SCHEME = /^(nbds?)(?:\+(unix|vsock|ssh))?$/i;
const TRANSPORTS: ReadonlyMap<string, NbdTransport> = new Map([
  ['unix', 'unix'],
  ['vsock', 'vsock'],
  ['ssh', 'ssh'],
]);

/** The error for a bad URI, which shows the start of `uri`. */
function bad(uri: string, why: string): NbdArgumentError {
  return new NbdArgumentError(`bad NBD URI "${printable(uri, 300)}": ${why}`);
}

/** The URI for an old name of QEMU, `nbd:HOST:PORT` or `nbd:unix:PATH`, with `:exportname=NAME`; else undefined. */
function uriForOldName(text: string): string | undefined {
  const [, place = '', name = ''] = /^nbd:([^/].*?)(?::exportname=(.*))?$/i.exec(text) ?? [];
  const [, socket] = /^unix:(.+)$/i.exec(place) ?? [];
  const path = name === '' ? '' : `/${percentEncode(name)}`;
  // A socket in the current directory has no slash, either.
  if (socket !== undefined)
    return `nbd+unix://${path === '' ? '/' : path}?socket=${percentEncode(socket).replaceAll('%2F', '/')}`;
  return /^(\[[^\]]*\]|[^:[\]]*):\d+$/.test(place) ? `nbd://${place}${path}` : undefined;
}

/** Why a text without `scheme://` is no URI, and which URI was probably meant. */
function schemeAdvice(text: string): string {
  const advice = 'it must begin with nbd://, nbds://, nbd+unix:///, nbd+vsock:// or nbd+ssh://';
  const shown = printable(text, 300);
  const uri = uriForOldName(text);
  if (uri !== undefined) return `this is an old form of QEMU; write ${printable(uri, 300)}`;
  const [, host] = /^nbds?:([\w.-]+)$/i.exec(text) ?? [];
  if (host !== undefined) return `${advice}; for TCP write nbd://${host}`;
  if (text.startsWith('/')) return `${advice}; for a local socket write nbd+unix:///?socket=${shown}`;
  if (/^[\w.-]+(:\d+)?$/.test(text)) return `${advice}; for TCP write nbd://${shown}`;
  return advice;
}

interface Parts {
  readonly tls: boolean;
  readonly transport: NbdTransport;
  readonly authority: string;
  readonly path: string;
  readonly query: string;
}

function split(text: string): Parts {
  const stray = /[\s\p{Cc}]/u.exec(text);
  if (stray !== null) {
    throw bad(text, `character ${stray.index + 1} must be percent-encoded`);
  }
  if (text.includes('#')) throw bad(text, 'a # has no meaning here; in an export name write %23');
  const match = /^([^:/?]*):\/\/([^/?]*)([^?]*)(?:\?(.*))?$/.exec(text);
  if (match === null) throw bad(text, schemeAdvice(text));
  const [, scheme, authority, path, query = ''] = match;
  const known = SCHEME.exec(scheme);
  if (known === null) throw bad(text, schemeAdvice(text));
  const transport = TRANSPORTS.get((known[2] ?? '').toLowerCase()) ?? 'tcp';
  return { tls: known[1].length === 4, transport, authority, path, query };
}

/** Checks for combinations that would not do what the author of the URI expects. */
function checkTogether(text: string, parts: Parts, host: string, parameters: UriParameters): void {
  const { transport, tls } = parts;
  const secure = (name: string): string => (transport === 'tcp' ? name : `${name}+${transport}`);
  if (transport === 'unix' && parameters.socket === undefined) {
    throw bad(text, 'it needs the socket: add ?socket=PATH');
  }
  if (transport === 'unix' && host !== '') {
    throw bad(
      text,
      `"${printable(host, 80)}" is in the place of a host; write an export name after three slashes`,
    );
  }
  if ((transport === 'tcp' || transport === 'vsock') && parameters.socket !== undefined) {
    throw bad(text, `a socket needs ${tls ? 'nbds' : 'nbd'}+unix:///`);
  }
  if (transport === 'ssh' && parameters.socket?.startsWith('\0')) {
    throw bad(text, 'an abstract socket cannot be reached through ssh');
  }
  if (!tls && parameters.needTls !== undefined) {
    throw bad(text, `${parameters.needTls} needs TLS: use ${secure('nbds')}://`);
  }
  if (transport !== 'ssh' && parameters.nbdPort !== undefined) {
    throw bad(text, 'nbd-port is for nbd+ssh:// only; write the port after the host');
  }
}

function ports(
  transport: NbdTransport,
  port: number | undefined,
  nbdPort: number | undefined,
): Pick<NbdUri, 'port' | 'sshPort'> {
  if (transport !== 'ssh') return { port: port ?? NBD_DEFAULT_PORT };
  return { port: nbdPort ?? NBD_DEFAULT_PORT, sshPort: port };
}

/**
 * Parses an NBD URI. The scheme is case-insensitive; all other parts are percent-decoded once. Unknown parameters are
 * returned, not refused.
 * @throws NbdArgumentError, with the URI, the reason and the correction in its message
 */
export function parseNbdUri(text: string): NbdUri {
  const parts = split(text);
  try {
    const authority = parseHostAndPort(parts.authority, parts.transport);
    const parameters = parseQuery(parts.query);
    checkTogether(text, parts, authority.host, parameters);
    const exportName = percentDecodeName(parts.path.slice(1));
    checkExportName(exportName);
    const { needTls: _, nbdPort, ...rest } = parameters;
    return {
      tls: parts.tls,
      transport: parts.transport,
      host: authority.host === '' ? defaultHost(parts.transport) : authority.host,
      ...ports(parts.transport, authority.port, nbdPort),
      exportName,
      user: authority.user,
      ...rest,
    };
  } catch (error) {
    if (error instanceof NbdError && !error.message.startsWith('bad NBD URI')) throw bad(text, error.message);
    throw error;
  }
}

function defaultHost(transport: NbdTransport): string {
  if (transport === 'unix') return '';
  return transport === 'vsock' ? '2' : 'localhost';
}
