// Hiding passwords and tokens in texts.

import { describe, expect, it } from 'vitest';
import { withoutSecrets, wordWithoutSecrets } from '../../../src/nbd/secrets.js';

describe('secrets in texts', () => {
  it.each([
    ['https://me:pw@host/d.img', 'https://me:…@host/d.img'],
    ['https://token@host/d.img', 'https://…@host/d.img'],
    ['https://:pw@host/d.img', 'https://…@host/d.img'],
    ['HTTP://me:p@w@host/', 'HTTP://me:…@host/'],
    ['ssh://me@host/d.img', 'ssh://me@host/d.img'],
    ['sftp://me:pw@host/d.img', 'sftp://me:…@host/d.img'],
    ['s3://key:secret@bucket/d.img', 's3://key:…@bucket/d.img'],
    ['https://host/d.img?sig=a%2Fb&se=2026', 'https://host/d.img?sig=…&se=…'],
    ['https://host/d.img?abcdef', 'https://host/d.img?…'],
    ['https://host/a@b/d.img', 'https://host/a@b/d.img'],
    ['http://[::1]:8080/d.img?token=x', 'http://[::1]:8080/d.img?token=…'],
    ['nbd+unix:///disk?socket=/tmp/s', 'nbd+unix:///disk?socket=/tmp/s'],
    ['nbds://alice@host/disk', 'nbds://alice@host/disk'],
    ['url=https://me:pw@h/d?x=y offset=1', 'url=https://me:…@h/d?x=… offset=1'],
    ['URL [https://h/d?sig=abc]: Not Found', 'URL [https://h/d?sig=…]: Not Found'],
    ["'https://h/d?sig=abc', and more", "'https://h/d?sig=…', and more"],
    ['https://h/a?x=1 and https://u:p@h/b', 'https://h/a?x=… and https://u:…@h/b'],
    ['no URL ?token=a', 'no URL ?token=a'],
    ['https://h/d?sig=…', 'https://h/d?sig=…'],
  ])('%s is shown as %s', (text, shown) => {
    expect(withoutSecrets(text)).toBe(shown);
  });

  it.each([
    ['password=pw', 'password=…'],
    ['proxy-password=pw', 'proxy-password=…'],
    ['password=+/run/pw', 'password=+/run/pw'],
    ['password=-5', 'password=-5'],
    ['secret-key=abc', 'secret-key=…'],
    ['session-token=abc', 'session-token=…'],
    ['cookie=a=b', 'cookie=…'],
    ['header=Authorization: Bearer abc', 'header=Authorization:…'],
    ['header=X-Api-Key: abc', 'header=X-Api-Key:…'],
    ['header=Accept: */*', 'header=Accept: */*'],
    ['secret,id=s0,data=abc', 'secret,id=s0,data=…'],
    ['tls-psk=/etc/keys.psk', 'tls-psk=/etc/keys.psk'],
    ['file=disk.img', 'file=disk.img'],
    ['url=https://h/d?sig=abc', 'url=https://h/d?sig=…'],
  ])('the word %s is shown as %s', (word, shown) => {
    expect(wordWithoutSecrets(word)).toBe(shown);
  });

  it('a URL with spaces as a word hides all of its password', () => {
    expect(wordWithoutSecrets('https://me:p w@h/a b?c=d e')).toBe('https://me:…@h/a%20b?c=…');
  });
});
