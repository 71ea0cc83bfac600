// Parses the name of an image: a file, a URL, or an export of an NBD server. Pure.

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import { type NbdUri, parseNbdUri } from '../nbd/uri/uri.js';
import { ImageError } from './errors.js';
import { isNbdUri } from './scheme.js';

/** Where an image's bytes come from. */
export type Source =
  /** `path` as typed. */
  | FileSource
  | WebSource
  | SshSource
  | { readonly kind: 'nbd'; readonly uri: string; readonly parsed: NbdUri };

/** A local file, or several that are the parts of one. */
export interface FileSource {
  readonly kind: 'file';
  /** Of the file, or of the first part. */
  readonly path: string;
  /** Paths of all parts, in their order; undefined: there is one file. */
  readonly parts?: readonly string[] | undefined;
}

/** A file at an http, https, ftp or ftps URL. */
export interface WebSource {
  readonly kind: 'web';
  /** Normalized, without user and password. */
  readonly url: string;
  readonly user: string | undefined;
  /** A secret: for no command line and no message. */
  readonly password: string | undefined;
  /** The path of a file with the password, for a command line. */
  readonly passwordFile?: string | undefined;
  /** A header that makes the server refuse requests when the file has changed. */
  readonly condition?: string | undefined;
  /** Whether nbdkit can repeat failed requests. */
  readonly canRetry?: boolean;
}

/** A file on an SFTP server. */
export interface SshSource {
  readonly kind: 'ssh';
  readonly url: string;
  readonly host: string;
  readonly port: string | undefined;
  readonly user: string | undefined;
  /** Relative to the user's home directory when it does not begin with a slash. */
  readonly path: string;
}

/** What to write instead of a URL of another kind. */
const SCHEME_ADVICE: ReadonlyMap<string, string> = new Map([
  ['s3', 'use the https:// URL of the object, presigned (aws s3 presign) unless it is public'],
  ['gs', 'use the https:// URL of the object, signed (gcloud storage sign-url) unless it is public'],
  ['scp', 'use ssh://USER@HOST/PATH'],
  ['smb', 'mount the share, and name the file on it'],
  ['nfs', 'mount the export of NFS, and name the file on it'],
  ['iscsi', 'log in to the target with iscsiadm, and name the block device'],
  ['vsock', 'use nbd+vsock://CID:PORT'],
  ['unix', 'use nbd+unix:///?socket=PATH'],
  ['tcp', 'use nbd://HOST:PORT'],
]);

const SCHEME = /^([a-z][a-z0-9+.-]*):\/\//i;

/** A URL as messages show it. Of one that cannot be parsed only the scheme: its password could be anywhere. */
function shownUrl(word: string): string {
  return printable(
    URL.canParse(word) ? withoutSecrets(new URL(word).href) : word.replace(/:\/\/.*$/s, '://…'),
  );
}

function parseUrl(word: string): URL {
  try {
    return new URL(word);
  } catch {
    throw new ImageError(
      `${shownUrl(word)} is not a URL: check its host, its port, and the % of its password`,
    );
  }
}

function decoded(text: string, word: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ImageError(`${shownUrl(word)} is not percent-encoded UTF-8 (write a % as %25)`);
  }
}

/** @throws ImageError when a part is not percent-encoded UTF-8, or unusable for nbdkit */
function parseWeb(word: string): WebSource {
  const parsed = parseUrl(word);
  const user = decoded(parsed.username, word);
  const password = decoded(parsed.password, word);
  // nbdkit reads one line.
  if (/[\n\0]/.test(user + password))
    throw new ImageError(`${shownUrl(word)}: the password has a line break`);
  parsed.username = '';
  parsed.password = '';
  parsed.hash = '';
  return {
    kind: 'web',
    url: parsed.href,
    user: user === '' && password === '' ? undefined : user,
    password: password === '' ? undefined : password,
  };
}

function pathOf(word: string): string {
  try {
    return fileURLToPath(parseUrl(word));
  } catch {
    throw new ImageError(`${printable(word)} must be file:///PATH`);
  }
}

/** `ssh://user@host:port/path`; `/~/path` is relative to the home directory. */
function parseSsh(word: string): SshSource {
  const { hostname, port, username, password, pathname } = parseUrl(word);
  const host = decoded(hostname, word).replace(/^\[(.*)\]$/, '$1');
  const path = decoded(pathname, word).replace(/^\/~\//, '');
  // An ssh configuration may put the host into a command line.
  if (!/^[a-z0-9._:%][a-z0-9._:%-]*$/i.test(host) || path === '' || path === '/') {
    throw new ImageError(`${printable(word)} must be ssh://[USER@]HOST[:PORT]/PATH`);
  }
  if (password !== '') {
    throw new ImageError('a password in an ssh:// URL is visible to all users: use a key or an agent');
  }
  const user = username === '' ? undefined : decoded(username, word);
  // The configuration may put the user there, too.
  if (user !== undefined && !/^[\p{L}\p{N}_.][\p{L}\p{N}_.@+-]*$/u.test(user)) {
    throw new ImageError(`${printable(word)}: ${printable(user)} is not a valid user name`);
  }
  return { kind: 'ssh', url: word, host, port: port === '' ? undefined : port, user, path };
}

/**
 * Parses a word of the command line. A word with a scheme is a URL, every other word a path.
 * @throws ImageError, NbdError when it is not well formed
 */
export function parseSource(word: string): Source {
  if (isNbdUri(word)) return { kind: 'nbd', uri: word, parsed: parseNbdUri(word) };
  const scheme = SCHEME.exec(word)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return { kind: 'file', path: word };
    case 'file':
      return { kind: 'file', path: pathOf(word) };
    case 'http':
    case 'https':
    case 'ftp':
    case 'ftps':
      return parseWeb(word);
    case 'ssh':
    case 'sftp':
      return parseSsh(word);
    default:
      throw new ImageError(
        `${shownUrl(word)}: the scheme ${printable(scheme)} is unknown; ${
          SCHEME_ADVICE.get(scheme) ??
          'use nbd://… for an NBD server, and a path, https://…, http://…, ftp://… or ssh://… for an image'
        }`,
      );
  }
}

/** QEMU's names of images that are no files. */
const QEMU_NAME = /^(json|rbd|fat|gluster|host_device|blkdebug|nvme):/i;

/** The next step for a word that is no URL and names no file. */
function adviceForMissing(word: string): string {
  const shown = printable(word);
  if (/^file:/i.test(word)) return 'a URL of a file is file:///PATH';
  if (QEMU_NAME.test(word))
    return `for a name of QEMU, start its server: nbdfuse MOUNTPOINT [ qemu-nbd -f raw ${shown} ]`;
  const remote = /^((?:[\w.-]+@)?[\w.-]+):([/~].*)$/.exec(word) ?? /^([\w.-]+@[\w.-]+):(.+)$/.exec(word);
  if (remote !== null) {
    const path = remote[2].startsWith('/') ? remote[2] : `/~/${remote[2].replace(/^~\//, '')}`;
    return `for a file on another machine, use ${printable(`ssh://${remote[1]}${path}`)}`;
  }
  if (/^www\./i.test(word)) return `for a file on a web server, use https://${shown}`;
  return `for an NBD server, use nbd://${/^[\w-]+$|^[\w.-]+:\d+$/.test(word) ? word : 'HOST'}`;
}

/** `user:password@host` at the begin of a word that should be a URL. */
const LOGIN = /^((?:\/\/)?[^/:@]+:)[^@]*@/;

/** The message about a word that is no URL and names no file. */
export function missingText(word: string): string {
  // Without the slashes nothing would hide a password in it.
  const [, scheme] = /^(https?|ftps?|ssh|sftp):/i.exec(word) ?? [];
  if (scheme !== undefined) return `there is no such file; a URL begins with ${scheme}:// (two slashes)`;
  if (LOGIN.test(word)) {
    const shown = printable(word.replace(LOGIN, '$1…@'));
    return `there is no file ${shown}; a URL begins with its scheme: https://${shown.replace(/^\/\//, '')}`;
  }
  return `there is no file ${printable(word)}; ${adviceForMissing(word)}`;
}

/** The file name, whose suffix may indicate the format; empty where there is none. */
export function nameOf(source: Source): string {
  switch (source.kind) {
    case 'file':
      // The number of a part says nothing about the format.
      return source.parts === undefined
        ? basename(source.path)
        : basename(source.path).replace(/\.[^.]*$/, '');
    case 'web':
      return basename(new URL(source.url).pathname);
    case 'ssh':
      return basename(source.path);
    default:
      return '';
  }
}

/** The source as the user typed it, but a URL without its user and password. */
export function textOf(source: Source): string {
  if (source.kind === 'file') return source.path;
  return source.kind === 'nbd' ? source.uri : source.url;
}

/** The name of a source in a file that others may read: a hash stands for the query of a URL, a possible token. */
export function recordedName(source: Source): string {
  const [place = '', ...query] = textOf(source).split('?');
  if (source.kind === 'nbd') return withoutSecrets(source.uri);
  if (source.kind !== 'web' || query.length === 0) return textOf(source);
  return `${place}?sha256=${createHash('sha256').update(query.join('?')).digest('hex')}`;
}

/** The source for messages, escaped and without secrets. */
export function shownOf(source: Source): string {
  const text = textOf(source);
  return printable(source.kind === 'file' ? text : withoutSecrets(text));
}
