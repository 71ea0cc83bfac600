// The forms of a server address for programs, and their endpoints. Pure.

import { NBD_DEFAULT_PORT } from '../nbd/constants.js';
import { NbdArgumentError } from '../nbd/errors.js';
import { parseNbdUri } from '../nbd/uri/uri.js';
import { type Endpoint, endpointFromUri, type Target, type TlsSettings } from '../transport/target.js';

/** The address of a server, or the command that starts one. A string is an NBD URI. */
export type ServerAddress =
  | string
  /** An NBD URI. */
  | { readonly uri: string }
  /** A host's name or address; the port is a number or a service name, default 10809. */
  | { readonly tcp: { readonly host: string; readonly port?: number | string } }
  /** Path of a socket; an abstract name begins with NUL. */
  | { readonly unix: string }
  /** A virtual machine's CID (1: this machine, 2: its host) and a port, default 10809; both of 32 bits. */
  | { readonly vsock: { readonly cid: number; readonly port?: number } }
  /** A connected stream socket; the client takes it over. */
  | { readonly fd: number }
  /** Program and arguments of a server that uses its standard input and output. */
  | { readonly command: readonly string[] }
  /** Program and arguments of a server that supports systemd socket activation. */
  | { readonly socketActivation: readonly string[] };

/** Options of the negotiation. */
export interface EndpointOptions {
  /** The export name, at most 4096 bytes of UTF-8. Default: the URI's, or the empty name. */
  readonly exportName?: string;
  /** TLS settings: with them the connection is encrypted or fails. Default: the URI's. */
  readonly tls?: TlsSettings;
  /** Metadata contexts to request. Default: `base:allocation`. */
  readonly metaContexts?: readonly string[];
  /** Whether to request structured replies. Default: true. */
  readonly structuredReplies?: boolean;
  /** Whether to request extended headers (64 bits). Default: true. */
  readonly extendedHeaders?: boolean;
}

const FORMS = ['tcp', 'unix', 'vsock', 'fd', 'command', 'socketActivation'];

type NamedAddress = Exclude<ServerAddress, string | { readonly uri: string }>;

/** A program written in JavaScript may pass anything. */
function check(isRight: boolean, rule: string): void {
  if (!isRight) throw new NbdArgumentError(`bad address: ${rule}`, { code: 'ERR_INVALID_ARG_TYPE' });
}

function commandLine(words: unknown, name: string): readonly string[] {
  const isRight = Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === 'string');
  check(isRight, `${name} must be an array of a program and its arguments`);
  return words as readonly string[];
}

function targetOf(address: NamedAddress): Target {
  if ('tcp' in address) {
    check(typeof address.tcp?.host === 'string', 'tcp must have a host');
    return { kind: 'tcp', host: address.tcp.host, port: address.tcp.port ?? NBD_DEFAULT_PORT };
  }
  if ('unix' in address) {
    check(typeof address.unix === 'string', 'unix must be the path of a socket');
    return { kind: 'unix', path: address.unix };
  }
  if ('vsock' in address) {
    check(Number.isInteger(address.vsock?.cid), 'vsock must have a cid, which is a number');
    return { kind: 'vsock', cid: address.vsock.cid, port: address.vsock.port ?? NBD_DEFAULT_PORT };
  }
  if ('fd' in address) {
    check(Number.isInteger(address.fd), 'fd must be the number of a descriptor');
    return { kind: 'fd', fd: address.fd };
  }
  if ('command' in address) return { kind: 'command', argv: commandLine(address.command, 'command') };
  const { socketActivation } = address;
  return { kind: 'socket-activation', argv: commandLine(socketActivation, 'socketActivation') };
}

function baseOf(address: ServerAddress): Endpoint {
  const forms = 'a URI, or an object with uri, tcp, unix, vsock, fd, command or socketActivation';
  if (typeof address !== 'string')
    check(typeof address === 'object' && address !== null, `it must be ${forms}`);
  const uri = typeof address === 'string' ? address : (address as { readonly uri?: string }).uri;
  if (uri === undefined) {
    const isKnown = FORMS.some((form) => form in (address as NamedAddress));
    check(isKnown, `it must be ${forms}`);
    return { target: targetOf(address as NamedAddress), exportName: '' };
  }
  check(typeof uri === 'string', 'uri must be an NBD URI');
  return endpointFromUri(parseNbdUri(uri));
}

/** The endpoint for an address and options. @throws NbdArgumentError if the address is wrong */
export function endpointOf(address: ServerAddress, options: EndpointOptions = {}): Endpoint {
  const base = baseOf(address);
  const { metaContexts, structuredReplies, extendedHeaders } = options;
  return {
    target: base.target,
    exportName: options.exportName ?? base.exportName,
    tls: options.tls ?? base.tls,
    handshake: { metaContexts, structuredReplies, extendedHeaders },
  };
}
