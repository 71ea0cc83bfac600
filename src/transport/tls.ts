// Upgrades a connected stream to TLS, and explains why a peer is not trusted.
//
// Called by negotiate.ts after the server has accepted NBD_OPT_STARTTLS. Never returns a stream that is not encrypted;
// requires TLS 1.2 or newer.

import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, checkServerIdentity, connect, type TLSSocket } from 'node:tls';
import { EPROTO } from '../constants/errno.js';
import { libcrypto } from '../linux/libcrypto.js';
import { printable } from '../nbd/text.js';
import { codeOf, TransportError } from './errors.js';
import type { Target, TlsSettings } from './target.js';
import { loadPsk, loadX509 } from './tls-credentials.js';
import { TlsHandover } from './tls-handover.js';
import { TlsTap } from './tls-tap.js';

const PSK_CIPHERS =
  'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:ECDHE-PSK:DHE-PSK:PSK:!eNULL:!aNULL:!SHA1:@STRENGTH';
/** OpenSSL counts unauthenticated suites as security level 0. */
const ANON_CIPHERS = 'ADH:AECDH:!eNULL:!RC4:!3DES:!MD5:@SECLEVEL=0';

/** OpenSSL's codes for a certificate chain without a trusted authority. */
const UNTRUSTED = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]);

/** The options of a session, and the messages of its failures. */
interface Session {
  readonly options: ConnectionOptions;
  /** Why the server's certificate is not trusted. */
  readonly untrusted: string;
  /** Advice for when the server closes the connection; begins with `; `. */
  readonly advice: string;
}

/** The name that the server's certificate must carry; undefined where the target has no host name. */
function expectedName(target: Target, settings: TlsSettings): string | undefined {
  if (settings.hostname !== undefined) return settings.hostname;
  return target.kind === 'tcp' || target.kind === 'ssh' ? target.host : undefined;
}

async function x509Session(target: Target, settings: TlsSettings): Promise<Session> {
  const { ca, cert, key, crl, from } = await loadX509(settings);
  const name = expectedName(target, settings);
  return {
    untrusted: `the server's certificate is not signed by an authority in ${printable(from)}`,
    advice:
      cert === undefined ? '; does it want a client certificate (client-cert.pem, client-key.pem)?' : '',
    options: {
      ca: [...ca],
      cert,
      key,
      crl,
      servername: name !== undefined && isIP(name) === 0 ? name : '',
      rejectUnauthorized: settings.verifyPeer !== false,
      checkServerIdentity: (_host, peer) =>
        name === undefined ? undefined : checkServerIdentity(name, peer),
    },
  };
}

async function pskSession(settings: TlsSettings): Promise<Session> {
  const { identity, key } = await loadPsk(settings);
  return {
    untrusted: 'the server sent a certificate instead of using the pre-shared key',
    advice: `; is the user ${printable(identity)} in its keys file, with this key?`,
    options: {
      ciphers: PSK_CIPHERS,
      // No authority at all: this refuses a server that sends a certificate instead of using the key.
      ca: [],
      pskCallback: () => ({ identity, psk: key }),
      checkServerIdentity: () => undefined,
    },
  };
}

function anonymousSession(): Session {
  return {
    untrusted: 'the server sent a certificate, which tls-type=anon does not use',
    advice: '; does it allow tls-type=anon?',
    // There is no identity to verify, and TLS 1.3 has no such suites.
    options: { ciphers: ANON_CIPHERS, maxVersion: 'TLSv1.2', rejectUnauthorized: false },
  };
}

async function prepare(target: Target, settings: TlsSettings): Promise<Session> {
  const type = settings.type ?? (settings.pskFile === undefined ? 'x509' : 'psk');
  if (type === 'psk') return pskSession(settings);
  return type === 'anon' ? anonymousSession() : x509Session(target, settings);
}

/** A stream that is encrypted. */
export interface SecuredStream {
  readonly stream: TLSSocket;
  /** Takes over the session; undefined where that is not wanted, or not possible. */
  readonly handover: TlsHandover | undefined;
}

/** Credentials that are loaded, ready to secure one stream. */
export interface TlsUpgrade {
  /** Secures `stream`. @throws TransportError saying why not, or the signal's reason */
  secure(stream: Duplex, signal: AbortSignal): Promise<SecuredStream>;
  /** The error to report for an error of a secured stream. */
  explain(error: unknown): TransportError;
}

/**
 * Reads credentials, so that a missing file is reported before anything is sent.
 * @param handOver whether to take over the sessions, if possible
 */
export async function prepareTls(
  target: Target,
  settings: TlsSettings,
  handOver: boolean,
): Promise<TlsUpgrade> {
  const session = await prepare(target, settings);
  const watched = handOver && session.options.maxVersion === undefined && libcrypto() !== undefined;
  return {
    secure: (stream, signal) => secure(stream, session, watched, signal),
    explain: (error) => explain(error, session),
  };
}

/** Begins a session over `stream`, with a tap in between where it may be taken over later. */
function begin(stream: Duplex, { options }: Session, watched: boolean): SecuredStream {
  const tap = watched ? new TlsTap(stream) : undefined;
  const secured = connect({ minVersion: 'TLSv1.2', ...options, socket: tap ?? stream });
  return { stream: secured, handover: tap === undefined ? undefined : new TlsHandover(secured, tap) };
}

function secure(
  stream: Duplex,
  session: Session,
  watched: boolean,
  signal: AbortSignal,
): Promise<SecuredStream> {
  return new Promise((resolve, reject) => {
    const begun = begin(stream, session, watched);
    const secured = begun.stream;
    // An error can come right after the handshake, before the caller listens for it.
    secured.on('error', () => undefined);
    const settle = (act: () => void) => {
      signal.removeEventListener('abort', abort);
      secured.removeListener('error', fail);
      secured.removeListener('close', closed);
      act();
    };
    const fail = (error: unknown) =>
      settle(() => {
        secured.destroy();
        stream.destroy();
        reject(error === signal.reason ? error : explain(error, session));
      });
    const abort = () => fail(signal.reason);
    const closed = () => fail(new Error('closed'));
    signal.addEventListener('abort', abort, { once: true });
    secured.once('error', fail);
    secured.once('close', closed);
    secured.once('secureConnect', () => settle(() => resolve(begun)));
  });
}

function explain(error: unknown, session: Session): TransportError {
  if (error instanceof TransportError) return error;
  return new TransportError(`cannot secure the connection with TLS: ${why(error, session)}`, {
    errno: EPROTO,
    cause: error,
  });
}

function why(error: unknown, { untrusted, advice }: Session): string {
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  if (UNTRUSTED.has(code)) return untrusted;
  if (code === 'CERT_HAS_EXPIRED') return "the server's certificate has expired";
  if (code === 'CERT_NOT_YET_VALID') return "the server's certificate is not valid yet";
  if (code === 'CERT_REVOKED') return "the server's certificate has been revoked";
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `the server's certificate is for another name (${printable(text)}); name it with tls-hostname=NAME`;
  }
  if (code === 'ECONNRESET' || code === 'EPIPE' || text === 'closed')
    return `the server closed the connection${advice}`;
  const alert = /alert ([a-z ]+)/.exec(text)?.[1];
  return alert === undefined ? printable(text) : `the server refused it (${alert})${advice}`;
}
