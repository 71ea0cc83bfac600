// The ways in which a program can name a server, and what they mean.
//
// Pure: turns what callers of NbdClient write into an Endpoint.

import { NBD_DEFAULT_PORT } from '../nbd/constants.js';
import { parseNbdUri } from '../nbd/uri/uri.js';
import { type Endpoint, endpointFromUri, type Target, type TlsSettings } from '../transport/target.js';

/** Where a server is, or how to start one. A string is an NBD URI. */
export type ServerAddress =
  | string
  /** An NBD URI. */
  | { readonly uri: string }
  /** A host's name or address; the port is a number or a service's name, default 10809. */
  | { readonly tcp: { readonly host: string; readonly port?: number | string } }
  /** Path of a socket; an abstract name begins with NUL. */
  | { readonly unix: string }
  /** A virtual machine's CID (1: this machine, 2: its host) and a port, default 10809; both of 32 bits. */
  | { readonly vsock: { readonly cid: number; readonly port?: number } }
  /** A connected stream socket; it belongs to the client from then on. */
  | { readonly fd: number }
  /** Program and arguments of a server that speaks on its standard input and output. */
  | { readonly command: readonly string[] }
  /** Program and arguments of a server that supports systemd socket activation. */
  | { readonly socketActivation: readonly string[] };

/** What to ask of a server. */
export interface EndpointOptions {
  /** The export, at most 4096 bytes of UTF-8. Default: that of the URI, or the empty name. */
  readonly exportName?: string;
  /** TLS settings; where they are given the connection is encrypted or fails. Default: those of the URI. */
  readonly tls?: TlsSettings;
  /** Metadata contexts to ask for. Default: `base:allocation`. */
  readonly metaContexts?: readonly string[];
  /** Whether to ask for structured replies. Default: true. */
  readonly structuredReplies?: boolean;
  /** Whether to ask for 64-bit headers. Default: true. */
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

/** The endpoint that `address` and `options` mean. @throws NbdError when the URI is bad */
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
