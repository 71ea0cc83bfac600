// The query of an NBD URI: name=value pairs. Pure.

import { NbdArgumentError } from '../errors.js';
import { printable } from '../text.js';
import { percentDecode } from './percent.js';
import { parseNumber } from './uri-authority.js';

/** Most pairs of a query. */
const MAX_PARAMETERS = 64;

/** The known parameters, decoded and checked, and the names of the others. */
export interface UriParameters {
  readonly socket?: string;
  readonly nbdPort?: number;
  readonly tlsType?: 'anon' | 'x509' | 'psk';
  readonly tlsCertificates?: string;
  readonly tlsPskFile?: string;
  readonly tlsHostname?: string;
  readonly tlsUsername?: string;
  readonly tlsVerifyPeer?: boolean;
  /** The name of a parameter that needs TLS, if there is one. */
  readonly needTls?: string;
  readonly unknownParameters: readonly string[];
}

function invalid(why: string): NbdArgumentError {
  return new NbdArgumentError(why);
}

function parsePairs(query: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = percentDecode(equals < 0 ? pair : pair.slice(0, equals), "a parameter's name");
    const value = percentDecode(
      equals < 0 ? '' : pair.slice(equals + 1),
      `the value of ${printable(name, 80)}`,
    );
    if (pairs.has(name)) throw invalid(`${printable(name, 80)} is given twice`);
    if (pairs.size >= MAX_PARAMETERS) throw invalid(`it has more than ${MAX_PARAMETERS} parameters`);
    pairs.set(name, value);
  }
  return pairs;
}

function parsePath(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  // An abstract name begins with NUL, and may have others.
  const isAbstract = name === 'socket' && value.startsWith('\0');
  if (value === '' || (!isAbstract && value.includes('\0'))) {
    throw invalid(`${name} is not a path`);
  }
  return value;
}

function parseTlsType(value: string | undefined): UriParameters['tlsType'] {
  if (value === undefined || value === 'anon' || value === 'x509' || value === 'psk') return value;
  throw invalid('tls-type must be anon, x509 or psk');
}

function parseVerifyPeer(value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  if (value !== '0' && value !== '1') throw invalid('tls-verify-peer must be 0 or 1');
  return value === '1';
}

function parseText(name: string, value: string | undefined): string | undefined {
  if (value !== undefined && (value === '' || /\p{Cc}/u.test(value)))
    throw invalid(`${name} is empty or unprintable`);
  return value;
}

const TLS_PARAMETERS = [
  'tls-type',
  'tls-certificates',
  'tls-psk-file',
  'tls-hostname',
  'tls-username',
  'tls-verify-peer',
];

const KNOWN = new Set(['socket', 'nbd-port', ...TLS_PARAMETERS]);

/**
 * Parses the text after `?`.
 * @throws NbdArgumentError on a duplicate parameter or an invalid value
 */
export function parseQuery(query: string): UriParameters {
  const pairs = parsePairs(query);
  const nbdPort = pairs.get('nbd-port');
  return {
    socket: parsePath('socket', pairs.get('socket')),
    nbdPort: nbdPort === undefined ? undefined : parseNumber(nbdPort, 1, 65_535, 'nbd-port'),
    tlsType: parseTlsType(pairs.get('tls-type')),
    tlsCertificates: parsePath('tls-certificates', pairs.get('tls-certificates')),
    tlsPskFile: parsePath('tls-psk-file', pairs.get('tls-psk-file')),
    tlsHostname: parseText('tls-hostname', pairs.get('tls-hostname')),
    tlsUsername: parseText('tls-username', pairs.get('tls-username')),
    tlsVerifyPeer: parseVerifyPeer(pairs.get('tls-verify-peer')),
    needTls: TLS_PARAMETERS.find((name) => pairs.has(name)),
    unknownParameters: [...pairs.keys()].filter((name) => !KNOWN.has(name)),
  };
}
