// The name of an image: URLs of each kind, and words that are none.

import { describe, expect, it } from 'vitest';
import { missingText, nameOf, parseSource, shownOf } from '../../../src/image/source.js';

describe('URL of an image', () => {
  it.each([
    [
      'http://host/a b.img',
      { kind: 'web', url: 'http://host/a%20b.img', user: undefined, password: undefined },
    ],
    ['HTTPS://Host/ü.img#x', { kind: 'web', url: 'https://host/%C3%BC.img' }],
    [
      'https://me:p%40w%2F@host:8443/d.img?x=y',
      { url: 'https://host:8443/d.img?x=y', user: 'me', password: 'p@w/' },
    ],
    ['ftp://anonymous@host/d.img', { url: 'ftp://host/d.img', user: 'anonymous', password: undefined }],
    ['https://:pw@host/d.img', { url: 'https://host/d.img', user: '', password: 'pw' }],
    ['file:///srv/a%20b.img', { kind: 'file', path: '/srv/a b.img' }],
    ['ssh://me@host:22/srv/d.img', { kind: 'ssh', host: 'host', port: '22', user: 'me', path: '/srv/d.img' }],
    ['sftp://host/~/d.img', { kind: 'ssh', host: 'host', path: 'd.img' }],
  ])('%s', (word, source) => {
    expect(parseSource(word)).toMatchObject(source);
  });

  it('messages and the name of the file have no password and no token', () => {
    const source = parseSource('https://me:pw@host/d.qcow2.xz?sig=abc');
    expect(shownOf(source)).toBe('https://host/d.qcow2.xz?sig=…');
    expect(nameOf(source)).toBe('d.qcow2.xz');
  });

  it.each([
    ['https://me:pw/x@host/d.img', 'https://… is not a URL: check its host'],
    ['http://host:99999/d.img', 'http://… is not a URL: check its host, its port'],
    ['http://me:p%ffw@host/d.img', 'http://me:…@host/d.img is not percent-encoded UTF-8'],
    ['http://me:a%0Ab@host/d.img', 'the password has a line break'],
    [
      's3://bucket/d.img?x=y',
      's3://bucket/d.img?x=…: the scheme s3 is unknown; use the https:// URL of the object',
    ],
    ['scp://host/d.img', 'use ssh://USER@HOST/PATH'],
    ['docker://host/d', 'the scheme docker is unknown; use nbd://'],
    ['file://host/d.img', 'file://host/d.img must be file:///PATH'],
    ['ssh://host', 'must be ssh://[USER@]HOST[:PORT]/PATH'],
  ])('%s is refused', (word, why) => {
    expect(() => parseSource(word)).toThrow(why);
  });
});

describe('missing file', () => {
  it.each([
    ['disk.img', 'there is no file disk.img; for an NBD server, use nbd://HOST'],
    ['server:10809', 'for an NBD server, use nbd://server:10809'],
    ['me@host:/srv/d.img', 'for a file on another machine, use ssh://me@host/srv/d.img'],
    ['host:/srv/d.img', 'use ssh://host/srv/d.img'],
    ['host:~/d.img', 'use ssh://host/~/d.img'],
    ['me@host:d.img', 'use ssh://me@host/~/d.img'],
    ['www.example.com/d.img', 'for a file on a web server, use https://www.example.com/d.img'],
    ['http:/me:pw@host/d.img', 'there is no such file; a URL begins with http:// (two slashes)'],
    ['bob:pw@host/x', 'there is no file bob:…@host/x; a URL begins with its scheme: https://bob:…@host/x'],
    [
      '//bob:p/w@host/x',
      'there is no file //bob:…@host/x; a URL begins with its scheme: https://bob:…@host/x',
    ],
    ['rbd:pool/disk', 'start its server: nbdfuse MOUNTPOINT [ qemu-nbd -f raw rbd:pool/disk ]'],
    ['file:d.img', 'a URL of a file is file:///PATH'],
  ])('%s', (word, text) => {
    expect(missingText(word)).toContain(text);
  });
});
