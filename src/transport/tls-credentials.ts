// Loads the certificates and keys of a TLS handshake, from the files that other NBD clients use.
//
// Called by tls.ts for each connection, so that the next one uses a certificate that was renewed on disk.

import { readFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { keptPath } from '../linux/kept-path.js';
import { printable } from '../nbd/text.js';
import { codeOf, reasonOf, TransportError } from './errors.js';
import type { TlsSettings } from './target.js';

/** The files of various distributions with the certificate authorities that the system trusts. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** PEM texts for an x509 session; `from` says where the authorities came from. */
export interface X509Credentials {
  readonly ca: readonly (string | Buffer)[];
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly crl: Buffer | undefined;
  readonly from: string;
}

/** One entry of a PSK file. */
export interface PskCredentials {
  readonly identity: string;
  readonly key: Buffer;
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw new TransportError(`cannot read ${printable(path)}: ${reasonOf(error)}`, { cause: error });
  }
}

/** The default directories, which are those of libnbd. */
export function defaultDirectories(): string[] {
  const system = '/etc/pki/libnbd';
  if (process.geteuid?.() === 0) return [system];
  const home = homedir();
  return [join(home, '.pki/libnbd'), join(home, '.config/pki/libnbd'), system];
}

async function loadDirectory(directory: string): Promise<X509Credentials | undefined> {
  const way = keptPath(directory);
  const ca = await readIfThere(join(way, 'ca-cert.pem'));
  if (ca === undefined) return undefined;
  const cert = await readIfThere(join(way, 'client-cert.pem'));
  const key = await readIfThere(join(way, 'client-key.pem'));
  if ((cert === undefined) !== (key === undefined)) {
    const missing = cert === undefined ? 'client-cert.pem' : 'client-key.pem';
    throw new TransportError(`cannot use the certificates in ${printable(directory)}: ${missing} is missing`);
  }
  return {
    ca: [ca],
    cert,
    key,
    crl: await readIfThere(join(way, 'ca-crl.pem')),
    from: join(directory, 'ca-cert.pem'),
  };
}

/**
 * The certificates of `settings.certificates`, or of the first default directory that has a
 * ca-cert.pem, or else the authorities that the system trusts.
 */
export async function loadX509(settings: TlsSettings): Promise<X509Credentials> {
  if (settings.certificates !== undefined) {
    const found = await loadDirectory(settings.certificates);
    if (found !== undefined) return found;
    const directory = printable(settings.certificates);
    throw new TransportError(
      `cannot use the TLS certificates in ${directory}: there is no ca-cert.pem in that directory`,
    );
  }
  for (const directory of defaultDirectories()) {
    const found = await loadDirectory(directory);
    if (found !== undefined) return found;
  }
  const named = process.env.SSL_CERT_FILE;
  for (const bundle of named === undefined ? SYSTEM_BUNDLES : [named]) {
    const ca = await readIfThere(bundle);
    if (ca !== undefined) return { ca: [ca], cert: undefined, key: undefined, crl: undefined, from: bundle };
  }
  return { ca: rootCertificates, cert: undefined, key: undefined, crl: undefined, from: "Node's own list" };
}

/** The key of the user in the PSK file. */
export async function loadPsk(settings: TlsSettings): Promise<PskCredentials> {
  if (settings.pskFile === undefined) {
    throw new TransportError(
      'cannot use TLS with a pre-shared key: no key file is named (tls-psk-file=FILE)',
    );
  }
  const file = printable(settings.pskFile);
  const identity = settings.username ?? userInfo().username;
  const text = await readIfThere(keptPath(settings.pskFile));
  if (text === undefined)
    throw new TransportError(`cannot read the keys file ${file}: there is no such file`);
  for (const line of text.toString('utf8').split(/\r?\n/)) {
    if (!line.startsWith(`${identity}:`)) continue;
    const hex = line.slice(identity.length + 1).trim();
    if (/^([0-9a-f]{2})+$/i.test(hex)) return { identity, key: Buffer.from(hex, 'hex') };
    throw new TransportError(
      `cannot use the keys file ${file}: the key of ${printable(identity)} is not hexadecimal`,
    );
  }
  throw new TransportError(
    `cannot find the user ${printable(identity)} in the keys file ${file}; name another as USER@HOST in the URI`,
  );
}
