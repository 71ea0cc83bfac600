import { describe, expect, test } from 'vitest';
import { parseNbdUri } from '../../../src/nbd/uri/uri.js';
import { sshCommand } from '../../../src/transport/ssh.js';
import { describeTarget, endpointFromUri, type SshTarget } from '../../../src/transport/target.js';

const target = (uri: string) => endpointFromUri(parseNbdUri(uri)).target;

describe('endpointFromUri', () => {
  test.each([
    ['nbd://example.com/disk', { kind: 'tcp', host: 'example.com', port: 10809 }],
    ['nbd://[::1]:99', { kind: 'tcp', host: '::1', port: 99 }],
    ['nbd+unix:///?socket=/run/a%20b', { kind: 'unix', path: '/run/a b' }],
    ['nbd+unix:///?socket=%00name', { kind: 'unix', path: '\0name' }],
    ['nbd+vsock://3:77/x', { kind: 'vsock', cid: 3, port: 77 }],
    [
      'nbd+ssh://me@there:22/x',
      { kind: 'ssh', host: 'there', port: 22, user: 'me', remote: { port: 10809 } },
    ],
    ['nbd+ssh://there/?socket=/s', { kind: 'ssh', host: 'there', remote: { socket: '/s' } }],
  ])('parses %s', (uri, expected) => {
    expect(target(uri)).toEqual(expected);
  });

  test('uses TLS for nbds and never for nbd', () => {
    expect(endpointFromUri(parseNbdUri('nbd://host')).tls).toBeUndefined();
    expect(endpointFromUri(parseNbdUri('nbds://bob@host/?tls-psk-file=/k')).tls).toMatchObject({
      pskFile: '/k',
      username: 'bob',
    });
  });
});

describe('describeTarget', () => {
  test.each([
    ['nbd://[::1]:99', '[::1]:99'],
    ['nbd+unix:///?socket=%00name', 'socket @name'],
    ['nbd+vsock://3:77', 'vsock 3:77'],
    ['nbd+ssh://me@there', 'ssh me@there'],
  ])('shows %s as %s', (uri, expected) => {
    expect(describeTarget(target(uri))).toBe(expected);
  });
});

describe('sshCommand', () => {
  const there: SshTarget = { kind: 'ssh', host: 'there', remote: { port: 10809 } };

  test('puts the host after -- and runs nc on the other machine', () => {
    expect(sshCommand(there)).toEqual('ssh -o BatchMode=yes -- there nc localhost 10809'.split(' '));
    expect(sshCommand({ ...there, port: 22, user: 'me' })).toEqual(
      'ssh -o BatchMode=yes -p 22 -l me -- there nc localhost 10809'.split(' '),
    );
  });

  test("quotes a socket's path for the shell of the other machine", () => {
    const argv = sshCommand({ ...there, remote: { socket: "/it's; rm -rf x" } });
    expect(argv.at(-1)).toBe("'/it'\\''s; rm -rf x'");
    expect(sshCommand({ ...there, remote: { socket: '-e/bin/sh' } }).at(-1)).toBe("'./-e/bin/sh'");
  });

  test.each(['-oProxyCommand=true', '', 'a b', 'a\nb'])('refuses the host %j', (host) => {
    expect(() => sshCommand({ ...there, host })).toThrow(/^bad host for ssh/);
  });

  test('refuses a user that looks like an option', () => {
    expect(() => sshCommand({ ...there, user: '-F/tmp/x' })).toThrow(/^bad user for ssh/);
  });
});
