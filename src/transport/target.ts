// The address of a server, and how to connect to it: plain data, made by the command line and the library.
//
// Pure: nothing here opens anything.

import { printable } from '../nbd/text.js';
import type { NbdUri } from '../nbd/uri/uri.js';
import { programOf } from './confine.js';

/** A place where a server listens, or how to start one. */
export type Target =
  /** A host's name or address, and a port's number or a service's name. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number | string }
  /** `path` may begin with NUL: a name in the abstract namespace. */
  | { readonly kind: 'unix'; readonly path: string }
  /** A virtual machine's CID and a port, both of 32 bits. */
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number }
  /** A connected stream socket that this process inherited. */
  | { readonly kind: 'fd'; readonly fd: number }
  /** A server that speaks on its standard input and output. */
  | { readonly kind: 'command'; readonly argv: readonly string[] }
  /** A server that takes a listening socket as descriptor 3 (systemd socket activation). */
  | {
      readonly kind: 'socket-activation';
      readonly argv: readonly string[];
      /** Its current directory; default: ours. */
      readonly directory?: string | undefined;
    }
  | SshTarget;

/** A server reached by running `nc` on another machine. */
export interface SshTarget {
  readonly kind: 'ssh';
  readonly host: string;
  /** Port of the ssh server; ssh's own configuration decides when undefined. */
  readonly port?: number;
  readonly user?: string;
  /** The target of `nc` on the remote machine: a TCP port, or a Unix socket. */
  readonly remote: { readonly port: number } | { readonly socket: string };
}

/** How to secure the connection. Everything has a default. */
export interface TlsSettings {
  /** Default: `psk` when `pskFile` is given, else `x509`. */
  readonly type?: 'x509' | 'psk' | 'anon';
  /** Directory with ca-cert.pem and, for client authentication, client-cert.pem and client-key.pem. */
  readonly certificates?: string;
  /** File of `user:hexadecimal key` lines, as psktool makes it. */
  readonly pskFile?: string;
  /** Name in the PSK file. Default: the user who runs this process. */
  readonly username?: string;
  /** Name that the server's certificate must carry. Default: the host that is connected to. */
  readonly hostname?: string;
  /** Whether an x509 server must prove who it is. Default: true. */
  readonly verifyPeer?: boolean;
}

/** A server, one of its exports, and how to secure the connection. */
export interface Endpoint {
  /** Where it listens, or how it is started. */
  readonly target: Target;
  /** The export, at most 4096 bytes of UTF-8. */
  readonly exportName: string;
  /** Undefined: plain text, never upgraded. Given: TLS or failure, never plain text. */
  readonly tls?: TlsSettings | undefined;
  /** The features to request in the handshake; by default all of them. */
  readonly handshake?: HandshakeFeatures;
}

/** Features of the protocol that a handshake may request or leave out. */
export interface HandshakeFeatures {
  readonly structuredReplies?: boolean;
  readonly extendedHeaders?: boolean;
  /** Queries of NBD_OPT_SET_META_CONTEXT. */
  readonly metaContexts?: readonly string[];
}

function targetFromUri(uri: NbdUri): Target {
  switch (uri.transport) {
    case 'unix':
      return { kind: 'unix', path: uri.socket ?? '' };
    case 'vsock':
      return { kind: 'vsock', cid: Number(uri.host), port: uri.port };
    case 'ssh':
      return {
        kind: 'ssh',
        host: uri.host,
        port: uri.sshPort,
        user: uri.user,
        remote: uri.socket === undefined ? { port: uri.port } : { socket: uri.socket },
      };
    default:
      return { kind: 'tcp', host: uri.host, port: uri.port };
  }
}

/** The endpoint that a parsed URI names. */
export function endpointFromUri(uri: NbdUri): Endpoint {
  const tls: TlsSettings = {
    type: uri.tlsType,
    certificates: uri.tlsCertificates,
    pskFile: uri.tlsPskFile,
    username: uri.tlsUsername ?? (uri.transport === 'ssh' ? undefined : uri.user),
    hostname: uri.tlsHostname,
    verifyPeer: uri.tlsVerifyPeer,
  };
  return { target: targetFromUri(uri), exportName: uri.exportName, tls: uri.tls ? tls : undefined };
}

/** A short printable name of a target, for messages. */
export function describeTarget(target: Target): string {
  switch (target.kind) {
    case 'tcp':
      return printable(
        target.host.includes(':') ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`,
      );
    case 'unix':
      return printable(`socket ${target.path.startsWith('\0') ? `@${target.path.slice(1)}` : target.path}`);
    case 'vsock':
      return `vsock ${target.cid}:${target.port}`;
    case 'fd':
      return `descriptor ${target.fd}`;
    case 'ssh':
      return printable(`ssh ${target.user === undefined ? '' : `${target.user}@`}${target.host}`);
    default:
      return printable(programOf(target.argv));
  }
}
