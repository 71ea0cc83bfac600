// Derives the key and IV of records, and the next secret, from a traffic secret.
//
// Pure, with HMAC from libcrypto. RFC 8446, sections 7.1 to 7.3 and appendix B.4.

import { type CipherName, type HashName, hmac } from '../linux/libcrypto.js';

/** A cipher suite. */
interface CipherSuite {
  readonly cipher: CipherName;
  readonly keyLength: number;
  readonly hash: HashName;
  readonly hashLength: number;
}

export const CIPHER_SUITES = {
  TLS_AES_128_GCM_SHA256: { cipher: 'EVP_aes_128_gcm', keyLength: 16, hash: 'EVP_sha256', hashLength: 32 },
  TLS_AES_256_GCM_SHA384: { cipher: 'EVP_aes_256_gcm', keyLength: 32, hash: 'EVP_sha384', hashLength: 48 },
  TLS_CHACHA20_POLY1305_SHA256: {
    cipher: 'EVP_chacha20_poly1305',
    keyLength: 32,
    hash: 'EVP_sha256',
    hashLength: 32,
  },
} as const satisfies Record<string, CipherSuite>;

/** The supported suites; others exist. */
export type SuiteName = keyof typeof CIPHER_SUITES;

export function isSuiteName(name: string): name is SuiteName {
  return Object.hasOwn(CIPHER_SUITES, name);
}

/** IV length of every suite in bytes. */
const IV_LENGTH = 12;

/** HKDF-Expand-Label with an empty context, for results no longer than the hash: one round of HKDF-Expand. */
export function expandLabel(hash: HashName, secret: Uint8Array, label: string, length: number): Uint8Array {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  // Length, label, context, and the number of HKDF-Expand's round.
  const info = Uint8Array.of(length >> 8, length & 0xff, name.length, ...name, 0, 1);
  const whole = hmac(hash, secret, info);
  const result = whole.slice(0, length);
  whole.fill(0);
  return result;
}

/** The key and IV of the records. */
export function trafficKeys(suite: SuiteName, secret: Uint8Array): { key: Uint8Array; iv: Uint8Array } {
  const { hash, keyLength } = CIPHER_SUITES[suite];
  return {
    key: expandLabel(hash, secret, 'key', keyLength),
    iv: expandLabel(hash, secret, 'iv', IV_LENGTH),
  };
}

/** The traffic secret after a KeyUpdate. */
export function nextSecret(suite: SuiteName, secret: Uint8Array): Uint8Array {
  const { hash, hashLength } = CIPHER_SUITES[suite];
  return expandLabel(hash, secret, 'traffic upd', hashLength);
}
