// OpenSSL's libcrypto, from the node executable or the library that it has loaded: AEAD ciphers and HMAC.
//
// Used by src/tls. As in libc.ts, arguments are plain numbers and memory is passed by address, so that a call allocates
// nothing. Loaded on demand, as most mounts do not need it.

import { koffi } from './koffi.js';
import { addressOf } from './libc.js';

/** Commands of EVP_CIPHER_CTX_ctrl. */
export const EVP_CTRL_AEAD_GET_TAG = 0x10;
export const EVP_CTRL_AEAD_SET_TAG = 0x11;

/** Ciphers and hashes, named as the functions that return them. */
export type CipherName = 'EVP_aes_128_gcm' | 'EVP_aes_256_gcm' | 'EVP_chacha20_poly1305';
export type HashName = 'EVP_sha256' | 'EVP_sha384';

function load() {
  const library = koffi.load(null);
  const addresses = (count: number): string[] => Array.from({ length: count }, () => 'size_t');
  return {
    EVP_CIPHER_CTX_new: library.func('EVP_CIPHER_CTX_new', 'size_t', []),
    EVP_CIPHER_CTX_free: library.func('EVP_CIPHER_CTX_free', 'void', ['size_t']),
    EVP_CIPHER_CTX_ctrl: library.func('EVP_CIPHER_CTX_ctrl', 'int', ['size_t', 'int', 'int', 'size_t']),
    EVP_CipherInit_ex: library.func('EVP_CipherInit_ex', 'int', [...addresses(5), 'int']),
    EVP_CipherUpdate: library.func('EVP_CipherUpdate', 'int', [...addresses(4), 'int']),
    EVP_CipherFinal_ex: library.func('EVP_CipherFinal_ex', 'int', addresses(3)),
    EVP_aes_128_gcm: library.func('EVP_aes_128_gcm', 'size_t', []),
    EVP_aes_256_gcm: library.func('EVP_aes_256_gcm', 'size_t', []),
    EVP_chacha20_poly1305: library.func('EVP_chacha20_poly1305', 'size_t', []),
    EVP_sha256: library.func('EVP_sha256', 'size_t', []),
    EVP_sha384: library.func('EVP_sha384', 'size_t', []),
    HMAC: library.func('HMAC', 'size_t', ['size_t', 'size_t', 'int', 'size_t', 'size_t', 'size_t', 'size_t']),
    ERR_clear_error: library.func('ERR_clear_error', 'void', []),
  } as const;
}

/** The functions, named as in their manual pages. */
export type Libcrypto = ReturnType<typeof load>;

let loaded: Libcrypto | undefined;
let tried = false;

/** The library; undefined if this node does not export its symbols. */
export function libcrypto(): Libcrypto | undefined {
  if (tried) return loaded;
  tried = true;
  try {
    loaded = load();
  } catch {
    loaded = undefined;
  }
  return loaded;
}

/** A copy in memory that the garbage collector does not move; it may move small arrays. */
export function pinned(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

/** HMAC of `data` with `key`. @throws Error without libcrypto, or if it fails */
export function hmac(hash: HashName, key: Uint8Array, data: Uint8Array): Uint8Array {
  const library = libcrypto();
  if (library === undefined) throw new Error('this Node.js does not export libcrypto');
  const [fixedKey, fixedData] = [pinned(key), pinned(data)];
  const result = pinned(new Uint8Array(64));
  const length = new Uint32Array(new ArrayBuffer(4));
  const done = library.HMAC(
    library[hash](),
    addressOf(fixedKey),
    key.length,
    addressOf(fixedData),
    data.length,
    addressOf(result),
    addressOf(length),
  );
  fixedKey.fill(0);
  fixedData.fill(0);
  if (done === 0) throw new Error(`${hash} is not available`);
  return result.subarray(0, length[0]);
}
