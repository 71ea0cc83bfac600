// Keys of the trace in RFC 8448, section 3, and of every suite.

import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { isSuiteName, nextSecret, trafficKeys } from '../../../src/tls/traffic-keys.js';
import { hex, toHex } from '../../support/hex.js';
import { CLIENT_SECRET, SERVER_SECRET } from '../../support/rfc8448.js';

describe('TLS traffic keys: RFC 8448, section 3', () => {
  test('the server writes application data with this key and IV', () => {
    expect(trafficKeys('TLS_AES_128_GCM_SHA256', SERVER_SECRET)).toEqual({
      key: hex`9f02283b6c9c07efc26bb9f2ac92e356 | key expanded (16 octets)`,
      iv: hex`cf782b88dd83549aadf1e984 | iv expanded (12 octets)`,
    });
  });

  test('the client writes application data with this key and IV', () => {
    expect(trafficKeys('TLS_AES_128_GCM_SHA256', CLIENT_SECRET)).toEqual({
      key: hex`17422dda596ed5d9acd890e3c63f5051 | key expanded (16 octets)`,
      iv: hex`5b78923dee08579033e523d9 | iv expanded (12 octets)`,
    });
  });
});

describe('TLS key update', () => {
  test('leads to the secret that HMAC gives for the label "traffic upd"', () => {
    const info = hex`
      0030                   | length: that of SHA-384
      11 "tls13 traffic upd" | label
      00                     | context
      01                     | round of HKDF-Expand`;
    const secret = new Uint8Array(48).fill(7);
    const expected = createHmac('sha384', secret).update(info).digest('hex');
    expect(toHex(nextSecret('TLS_AES_256_GCM_SHA384', secret))).toBe(expected);
  });

  test('leaves the old secret unchanged', () => {
    const secret = new Uint8Array(32).fill(7);
    nextSecret('TLS_CHACHA20_POLY1305_SHA256', secret);
    expect(secret).toEqual(new Uint8Array(32).fill(7));
  });
});

test('TLS traffic keys: suites with other ciphers are unknown', () => {
  expect(['TLS_AES_128_CCM_SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'toString'].filter(isSuiteName)).toEqual(
    [],
  );
});
