// Certificates for tests of TLS and for tools, made by certtool: an authority, and certificates that it has
// signed.

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { requireProgram } from './requires.js';

export interface CertificateOptions {
  readonly cn: string;
  /** A name of a host that the certificate is good for. */
  readonly host?: string;
  /** More lines of certtool's template. */
  readonly lines?: readonly string[];
}

function certtool(...words: readonly string[]): void {
  execFileSync(requireProgram('certtool'), [...words], { stdio: 'ignore' });
}

const makeKey = (path: string): void => certtool('--generate-privkey', '--key-type=ecdsa', '--outfile', path);

const signedBy = (authority: string): string[] => [
  '--load-ca-certificate',
  join(authority, 'ca-cert.pem'),
  '--load-ca-privkey',
  join(authority, 'ca-key.pem'),
];

/** Makes an authority: ca-cert.pem and ca-key.pem in `folder`. */
export function makeAuthority(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const [key, template, certificate] = ['ca-key.pem', 'ca.info', 'ca-cert.pem'].map((n) => join(folder, n));
  makeKey(key);
  writeFileSync(template, 'cn = "test authority"\nca\ncert_signing_key\ncrl_signing_key\n');
  const words = ['--load-privkey', key, '--template', template, '--outfile', certificate];
  certtool('--generate-self-signed', ...words);
}

/** Makes `<kind>-cert.pem` and `<kind>-key.pem` in `folder`, signed by the authority in `authority`. */
export function makeCertificate(
  folder: string,
  kind: 'server' | 'client',
  authority: string,
  { cn, host, lines = [] }: CertificateOptions,
): void {
  mkdirSync(folder, { recursive: true });
  const [key, template, certificate] = ['-key.pem', '.info', '-cert.pem'].map((n) => join(folder, kind + n));
  const names = host === undefined ? [] : [`dns_name = "${host}"`];
  const usage = kind === 'server' ? 'tls_www_server' : 'tls_www_client';
  writeFileSync(template, [`cn = "${cn}"`, ...names, usage, 'signing_key', ...lines, ''].join('\n'));
  makeKey(key);
  const words = ['--load-privkey', key, '--template', template, '--outfile', certificate];
  certtool('--generate-certificate', ...signedBy(authority), ...words);
}

/** Makes a folder that trusts `authority`, except for the server in `revoked`: ca-cert.pem and ca-crl.pem. */
export function makeRevocation(folder: string, authority: string, revoked: string): string {
  mkdirSync(folder, { recursive: true });
  const [template, crl] = ['crl.info', 'ca-crl.pem'].map((n) => join(folder, n));
  writeFileSync(template, 'crl_next_update = 30\ncrl_number = 1\n');
  copyFileSync(join(authority, 'ca-cert.pem'), join(folder, 'ca-cert.pem'));
  const words = ['--load-certificate', join(revoked, 'server-cert.pem'), '--template', template];
  certtool('--generate-crl', ...signedBy(authority), ...words, '--outfile', crl);
  return folder;
}

/** An authority with a server certificate for localhost and a client certificate, all in one folder. */
export function makePki(
  folder: string,
  server: CertificateOptions = { cn: 'localhost', host: 'localhost' },
): string {
  makeAuthority(folder);
  makeCertificate(folder, 'server', folder, server);
  makeCertificate(folder, 'client', folder, { cn: 'client' });
  return folder;
}
