// NBD URIs: their meaning according to doc/uri.md, and refused ones.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NbdError } from '../../../src/nbd/errors.js';
import { percentEncode } from '../../../src/nbd/uri/percent.js';
import { parseNbdUri } from '../../../src/nbd/uri/uri.js';
import { nameFrom } from '../../../src/nbd/wire.js';

describe('URI export name', () => {
  it.each([
    ['nbd://example.com/disk', 'disk'],
    ['nbd+unix:///disk?socket=sock', 'disk'],
    ['nbd://example.com/', ''],
    ['nbd://example.com', ''],
    ['nbd://example.com//disk', '/disk'],
    ['nbd://example.com/hello%20world', 'hello world'],
    ['nbd://example.com/a/b/../c', 'a/b/../c'],
    ['nbd://example.com/a+b%2Bc', 'a+b+c'],
    ['nbd://example.com/%C3%A9', 'é'],
    ['nbd://example.com/n%FFu', 'n\udcffu'],
    ['nbd://example.com/é', 'é'],
    ['nbd://example.com/a:b@c', 'a:b@c'],
    ['nbd://example.com?x-y=1', ''],
  ])('of %s is %j', (uri, exportName) => {
    expect(parseNbdUri(uri).exportName).toBe(exportName);
  });

  it('may have 4096 bytes and a percent-encoded slash', () => {
    expect(parseNbdUri(`nbd://h/${'%2F'.repeat(4096)}`).exportName).toBe('/'.repeat(4096));
  });
});

describe('URI schemes', () => {
  it.each([
    ['nbd://h', false, 'tcp'],
    ['nbds://h', true, 'tcp'],
    ['NBD://h', false, 'tcp'],
    ['nbd+unix:///?socket=s', false, 'unix'],
    ['nbds+unix:///?socket=s', true, 'unix'],
    ['NBDS+Unix:///?socket=s', true, 'unix'],
    ['nbd+vsock://3', false, 'vsock'],
    ['nbds+vsock://3', true, 'vsock'],
    ['nbd+ssh://h', false, 'ssh'],
    ['nbds+SSH://h', true, 'ssh'],
  ])('%s: TLS %s, over %s', (uri, tls, transport) => {
    expect(parseNbdUri(uri)).toMatchObject({ tls, transport });
  });
});

describe('URI authority', () => {
  it.each([
    ['nbd://example.com', 'example.com', 10809],
    ['nbd://example.com:', 'example.com', 10809],
    ['nbd://example.com:1', 'example.com', 1],
    ['nbd://example.com:65535/x', 'example.com', 65535],
    ['nbd://', 'localhost', 10809],
    ['nbd:///disk', 'localhost', 10809],
    ['nbd://:10810', 'localhost', 10810],
    ['nbd://192.0.2.1', '192.0.2.1', 10809],
    ['nbd://[::1]', '::1', 10809],
    ['nbd://[2001:db8::1]:10810/x', '2001:db8::1', 10810],
    ['nbd://[fe80::1%25eth0]', 'fe80::1%eth0', 10809],
    ['nbd+unix:///?socket=s', '', 10809],
    ['nbd+vsock://', '2', 10809],
    ['nbd+vsock://1:4294967294', '1', 4294967294],
  ])('of %s is host %j, port %i', (uri, host, port) => {
    expect(parseNbdUri(uri)).toMatchObject({ host, port });
  });

  it('carries a user name, percent-decoded', () => {
    expect(parseNbdUri('nbds://al%20ice@h').user).toBe('al ice');
    expect(parseNbdUri('nbds+unix://alice@/?socket=s')).toMatchObject({ user: 'alice', host: '' });
    expect(parseNbdUri('nbd://h').user).toBeUndefined();
  });

  it('of an ssh URI names the ssh server, and nbd-port or socket the NBD server behind it', () => {
    expect(parseNbdUri('nbd+ssh://bob@h:2222/x?nbd-port=10810')).toMatchObject({
      user: 'bob',
      host: 'h',
      sshPort: 2222,
      port: 10810,
    });
    expect(parseNbdUri('nbd+ssh://h')).toMatchObject({ host: 'h', sshPort: undefined, port: 10809 });
    expect(parseNbdUri('nbd+ssh://h/?socket=/run/nbd').socket).toBe('/run/nbd');
  });
});

describe('URI parameters', () => {
  it.each([
    ['nbd+unix:///?socket=/tmp/a%20b', '/tmp/a b'],
    ['nbd+unix:///?socket=nbd.sock', 'nbd.sock'],
    ['nbd+unix:///?socket=%00/abstract', '\0/abstract'],
    ['nbd+unix:///?socket=%00a%00b%00', '\0a\0b\0'],
    ['nbd+unix:///x?&socket=a=b+c&', 'a=b+c'],
  ])('of %s name the socket %j', (uri, socket) => {
    expect(parseNbdUri(uri).socket).toBe(socket);
  });

  it('set the TLS options', () => {
    const uri =
      'nbds+unix:///?socket=s&tls-type=x509&tls-certificates=/c&tls-hostname=h.example&tls-verify-peer=0&tls-username=u';
    expect(parseNbdUri(uri)).toMatchObject({
      tlsType: 'x509',
      tlsCertificates: '/c',
      tlsHostname: 'h.example',
      tlsVerifyPeer: false,
      tlsUsername: 'u',
    });
    expect(parseNbdUri('nbds://h?tls-psk-file=keys.psk&tls-verify-peer=1')).toMatchObject({
      tlsPskFile: 'keys.psk',
      tlsVerifyPeer: true,
    });
    expect(parseNbdUri('nbds://h').tlsVerifyPeer).toBeUndefined();
  });

  it('that are unknown come back to the caller ("Other NBD URI query parameters")', () => {
    expect(parseNbdUri('nbd://h?sockte=s&x-y=1&flag').unknownParameters).toEqual(['sockte', 'x-y', 'flag']);
  });
});

describe('URI errors in one line that says why', () => {
  it.each([
    ['', 'must begin with nbd://'],
    ['/tmp/sock', 'for a local socket write nbd+unix:///?socket=/tmp/sock'],
    ['localhost:10809', 'for TCP write nbd://localhost:10809'],
    ['nbd:h', 'for TCP write nbd://h'],
    ['nbd:h:99', 'this is an old form of QEMU; write nbd://h:99'],
    ['nbd:[::1]:99:exportname=a b'.replace(' ', '/'), 'write nbd://[::1]:99/a%2Fb'],
    ['nbd:unix:/run/x', 'write nbd+unix:///?socket=/run/x'],
    ['nbd:unix:x?y:exportname=d', 'write nbd+unix:///d?socket=x%3Fy'],
    ['nbd:unix:x\udcff:exportname=\udcc3d', 'write nbd+unix:///%C3d?socket=x%FF'],
    ['http://h', 'must begin with nbd://'],
    ['nbd+tcp://h', 'must begin with nbd://'],
    ['nbd:h', 'must begin with nbd://'],
    ['nbd:/h', 'must begin with nbd://'],
    ['nbd+unix:///', 'add ?socket=PATH'],
    ['nbd+unix:///?socket=', 'socket is not a path'],
    ['nbd+unix:///?socket=a%00b', 'socket is not a path'],
    ['nbd+unix://disk?socket=s', 'write an export name after three slashes'],
    ['nbd://h?socket=s', 'a socket needs nbd+unix:///'],
    ['nbds+vsock://3?socket=s', 'a socket needs nbds+unix:///'],
    ['nbd+ssh://h?socket=%00s', 'cannot be reached through ssh'],
    ['nbd://h?socket=a&socket=b', 'socket is given twice'],
    ['nbd://h?tls-certificates=/c', 'tls-certificates needs TLS: use nbds://'],
    ['nbd+unix:///?socket=s&tls-psk-file=k', 'tls-psk-file needs TLS: use nbds+unix://'],
    ['nbds://h?tls-type=none', 'must be anon, x509 or psk'],
    ['nbds://h?tls-verify-peer=maybe', 'must be 0 or 1'],
    ['nbds://h?tls-hostname=', 'tls-hostname is empty'],
    ['nbds://h?tls-certificates=%00c', 'tls-certificates is not a path'],
    ['nbd://h?nbd-port=1', 'is for nbd+ssh:// only'],
    ['nbd+ssh://h?nbd-port=0', 'a number from 1 to 65535'],
    ['nbd://h:0', 'a number from 1 to 65535'],
    ['nbd://h:65536', 'a number from 1 to 65535'],
    ['nbd://h:nbd', 'a number from 1 to 65535'],
    ['nbd+vsock://h', 'the CID must be a number'],
    ['nbd+vsock://4294967295', 'the CID must be a number'],
    ['nbd://::1', 'write an IPv6 address in [ ]'],
    ['nbd://[::1', 'write an IPv6 address in [ ]'],
    ['nbd://[disk]', 'is not an IPv6 address'],
    ['nbd://-oProxyCommand=x', 'the host name is invalid'],
    ['nbd+ssh://%2DoProxyCommand=x', 'the host name is invalid'],
    ['nbd+ssh://-oProxyCommand=x@h', 'the user name is invalid'],
    ['nbd://a%2Fb', 'the host name is invalid'],
    ['nbd://h/%zz', 'is not percent-encoded'],
    ['nbd://h/%f', 'is not percent-encoded'],
    ['nbd://h/a%00b', 'contains a NUL'],
    [`nbd://h/${'x'.repeat(4097)}`, 'has 4097 bytes; at most 4096'],
    ['nbd://h/a b', 'character 10 must be percent-encoded'],
    ['nbd://h/a\nb', 'character 10 must be percent-encoded'],
    ['nbd://h/a#b', 'write %23'],
  ])('%j', (uri, why) => {
    const refused = (): unknown => parseNbdUri(uri);
    expect(refused).toThrow(NbdError);
    expect(refused).toThrow(why);
    expect(refused).toThrow(/^bad NBD URI "[^\n]*$/);
  });
});

describe('URI of any text', () => {
  it('returns an export name of any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const name = nameFrom(bytes.filter((byte) => byte !== 0));
        expect(parseNbdUri(`nbd://h/${percentEncode(name)}`).exportName).toBe(name);
      }),
    );
  });

  const name = fc
    .string({ unit: 'grapheme', maxLength: 100 })
    .filter((text) => !text.includes('\0') && !/\p{Cs}/u.test(text));

  it('returns export name and socket as they were encoded', () => {
    fc.assert(
      fc.property(name, name, (exportName, socket) => {
        fc.pre(socket !== '');
        const uri = `nbd+unix:///${encodeURIComponent(exportName)}?socket=${encodeURIComponent(socket)}`;
        expect(parseNbdUri(uri)).toMatchObject({ exportName, socket });
      }),
    );
  });

  it('returns host and port as they were written', () => {
    fc.assert(
      fc.property(fc.domain(), fc.integer({ min: 1, max: 65535 }), fc.boolean(), (host, port, tls) => {
        expect(parseNbdUri(`nbd${tls ? 's' : ''}://${host}:${port}/x`)).toMatchObject({ host, port, tls });
      }),
    );
  });

  it('parses to a URI or to an NbdError of one line', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string().map((rest) => `nbd+ssh://${rest}`),
      fc.webUrl(),
    );
    fc.assert(
      fc.property(text, (uri) => {
        try {
          const { host, user } = parseNbdUri(uri);
          expect(host.startsWith('-') || user?.startsWith('-')).toBeFalsy();
        } catch (error) {
          expect(error).toBeInstanceOf(NbdError);
          expect(String(error)).not.toMatch(/[\n\r]/);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
