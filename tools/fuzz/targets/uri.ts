// NBD URIs from strangers: the test case is the text.
//
// An accepted URI must survive formatting and parsing, and must not become an option of `ssh` or be
// interpreted by a shell.

import { percentEncode } from '../../../src/nbd/uri/percent.js';
import { type NbdUri, parseNbdUri } from '../../../src/nbd/uri/uri.js';
import { TransportError } from '../../../src/transport/errors.js';
import { sshCommand } from '../../../src/transport/ssh.js';
import { endpointFromUri } from '../../../src/transport/target.js';
import { expectedError, promise } from '../finding.js';

const PARAMETERS = [
  ['tlsType', 'tls-type'],
  ['tlsCertificates', 'tls-certificates'],
  ['tlsPskFile', 'tls-psk-file'],
  ['tlsHostname', 'tls-hostname'],
  ['tlsUsername', 'tls-username'],
  ['socket', 'socket'],
] as const;

function authority({ host, user, port, sshPort, transport }: NbdUri): string {
  const who = user === undefined ? '' : `${percentEncode(user)}@`;
  if (transport === 'unix') return who;
  const where = host.includes(':') ? `[${host.replace('%', '%25')}]` : percentEncode(host);
  const which = transport === 'ssh' ? sshPort : port;
  return which === undefined ? `${who}${where}` : `${who}${where}:${which}`;
}

/** The text of a URI with the parts of `uri`. */
function format(uri: NbdUri): string {
  const scheme = `nbd${uri.tls ? 's' : ''}${uri.transport === 'tcp' ? '' : `+${uri.transport}`}`;
  const pairs: string[] = [];
  for (const [field, name] of PARAMETERS) {
    const value = uri[field];
    if (value !== undefined) pairs.push(`${name}=${percentEncode(value)}`);
  }
  if (uri.tlsVerifyPeer !== undefined) pairs.push(`tls-verify-peer=${uri.tlsVerifyPeer ? 1 : 0}`);
  if (uri.transport === 'ssh') pairs.push(`nbd-port=${uri.port}`);
  // With its =, since a name may be empty.
  for (const name of uri.unknownParameters) pairs.push(`${percentEncode(name)}=`);
  const query = pairs.length === 0 ? '' : `?${pairs.join('&')}`;
  return `${scheme}://${authority(uri)}/${percentEncode(uri.exportName)}${query}`;
}

function checkSsh(uri: NbdUri): void {
  const { target } = endpointFromUri(uri);
  promise(target.kind === 'ssh', 'an ssh URI leads elsewhere');
  let words: string[];
  try {
    words = sshCommand(target);
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    expectedError(error);
    return;
  }
  const end = words.indexOf('--');
  promise(words[end + 1] === uri.host && !uri.host.startsWith('-'), 'the host is not behind --');
  promise(words.length <= end + 5, 'more words than ssh needs');
  const options = words.slice(1, end).filter((_, i) => i % 2 === 0);
  promise(
    options.every((word) => ['-o', '-p', '-l'].includes(word)),
    `an option of a stranger: ${options.join(' ')}`,
  );
  promise(
    !words.some((word, i) => i > end && word.startsWith('-') && word !== '-U'),
    'a word became an option',
  );
}

function parse(text: string): NbdUri | undefined {
  try {
    return parseNbdUri(text);
  } catch (error) {
    const { message } = expectedError(error);
    promise(message.startsWith('bad NBD URI "'), `an error that is not about the URI: ${message}`);
    promise(message.length < 2500, `a message of ${message.length} characters`);
    return undefined;
  }
}

export function fuzz(data: Buffer): void {
  const uri = parse(data.toString('utf8'));
  if (uri === undefined) return;
  promise(!uri.host.startsWith('-') && !uri.user?.startsWith('-'), 'a name that looks like an option');
  promise(!/[\p{Cc}\s]/u.test(uri.host), 'a host with control characters');
  promise(!/\p{Cc}/u.test(uri.user ?? ''), 'a user with control characters');
  promise(
    !uri.exportName.includes('\0') && Buffer.byteLength(uri.exportName) <= 4096,
    'an export name that cannot be sent',
  );
  promise(uri.port >= 1 && uri.port <= (uri.transport === 'vsock' ? 0xfffffffe : 65_535), `port ${uri.port}`);
  promise(uri.unknownParameters.length <= 64, 'too many parameters');
  const again = format(uri);
  promise(
    JSON.stringify(parse(again)) === JSON.stringify(uri),
    `${JSON.stringify(uri)} came back from ${again} changed`,
  );
  if (uri.transport === 'ssh') checkSsh(uri);
}
