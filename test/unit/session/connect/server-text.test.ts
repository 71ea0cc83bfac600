// The server in the status: as the user named it, without secrets.

import { describe, expect, it } from 'vitest';
import { serverText } from '../../../../src/session/connect/server-text.js';

describe('server in the status', () => {
  it('shows no password and no token', () => {
    const argv = ['nbdkit', 'curl', 'url=https://me:pw@host/d?sig=abc', 'password=pw', 'header=Cookie: abc'];
    expect(serverText({ kind: 'socket-activation', argv })).toBe(
      'socket-activation nbdkit curl url=https://me:…@host/d?sig=… password=… header=Cookie:…',
    );
    expect(serverText({ kind: 'uri', uri: 'nbds://me:pw@host/disk' })).toBe('nbds://me:…@host/disk');
    expect(serverText({ kind: 'uri', uri: 'nbd+unix:///?socket=/s' })).toBe('nbd+unix:///?socket=/s');
  });
});
