// The forms of a server address for programs, and their endpoints. Pure.

import { NBD_DEFAULT_PORT } from '../nbd/constants.js';
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

function targetOf(address: Exclude<ServerAddress, string | { uri: string }>): Target {
  if ('tcp' in address) {
    return { kind: 'tcp', host: address.tcp.host, port: address.tcp.port ?? NBD_DEFAULT_PORT };
  }
  if ('unix' in address) return { kind: 'unix', path: address.unix };
  if ('vsock' in address) {
    return { kind: 'vsock', cid: address.vsock.cid, port: address.vsock.port ?? NBD_DEFAULT_PORT };
  }
  if ('fd' in address) return { kind: 'fd', fd: address.fd };
  if ('command' in address) return { kind: 'command', argv: address.command };
  return { kind: 'socket-activation', argv: address.socketActivation };
}

/** The endpoint for an address and options. @throws NbdError if the URI is invalid */
export function endpointOf(address: ServerAddress, options: EndpointOptions = {}): Endpoint {
  const uri = typeof address === 'string' ? address : 'uri' in address ? address.uri : undefined;
  const base: Endpoint =
    uri !== undefined
      ? endpointFromUri(parseNbdUri(uri))
      : { target: targetOf(address as Exclude<ServerAddress, string | { uri: string }>), exportName: '' };
  const { metaContexts, structuredReplies, extendedHeaders } = options;
  return {
    target: base.target,
    exportName: options.exportName ?? base.exportName,
    tls: options.tls ?? base.tls,
    handshake: { metaContexts, structuredReplies, extendedHeaders },
  };
}
