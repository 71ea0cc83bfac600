// Protects the records of one direction: keys, nonces and the sequence number. RFC 8446, sections 5.2 and 5.3.
//
// A record costs a few calls into libcrypto and no allocation. Owns an EVP context; `close` frees it.

import { addressOf } from '../linux/libc.js';
import {
  EVP_CTRL_AEAD_GET_TAG,
  EVP_CTRL_AEAD_SET_TAG,
  type Libcrypto,
  libcrypto,
  pinned,
} from '../linux/libcrypto.js';
import { HEADER, TAG } from './constants.js';
import { CIPHER_SUITES, nextSecret, type SuiteName, trafficKeys } from './traffic-keys.js';

/** The state of one direction of a session. */
export interface Direction {
  /** Traffic secret; to be overwritten after use. */
  readonly secret: Uint8Array;
  /** Sequence number of the next record, below 2^53. */
  readonly sequence: number;
}

/** Offsets in the memory shared with libcrypto: nonce, a length, one byte, the output of Final. */
const NONCE = 0;
const LENGTH = 16;
const BYTE = 24;
const FINAL = 32;
const SHARED = 64;

/** See the file's head. */
export class RecordCipher {
  /** Sequence number of the next record. */
  sequence: number;
  readonly #suite: SuiteName;
  readonly #library: Libcrypto;
  readonly #seals: boolean;
  readonly #context: number;
  readonly #shared = new DataView(new ArrayBuffer(SHARED));
  readonly #address = addressOf(this.#shared);
  #secret: Uint8Array;
  #ivMiddle = 0;
  #ivEnd = 0;

  /** @throws Error if libcrypto is missing or fails */
  constructor(suite: SuiteName, { secret, sequence }: Direction, seals: boolean) {
    const library = libcrypto();
    if (library === undefined) throw new Error('this Node.js does not export libcrypto');
    this.#library = library;
    this.#suite = suite;
    this.#seals = seals;
    this.#secret = Uint8Array.from(secret);
    this.sequence = sequence;
    this.#context = library.EVP_CIPHER_CTX_new();
    this.#setKeys();
  }

  /** The last byte of the plaintext that `open` found: the content type, or padding. */
  get lastByte(): number {
    return this.#shared.getUint8(BYTE);
  }

  /**
   * Opens the record whose header is at `header`; `length` bytes (at least 1) of content, content type and padding, and
   * the tag follow. All but the last byte go to `to`, which may be their own place. Returns whether the tag is correct;
   * otherwise the bytes at `to` must not be used.
   */
  open(header: number, length: number, to: number): boolean {
    const library = this.#library;
    const body = header + HEADER;
    const address = this.#address;
    this.#begin(header);
    library.EVP_CIPHER_CTX_ctrl(this.#context, EVP_CTRL_AEAD_SET_TAG, TAG, body + length);
    if (length > 1) library.EVP_CipherUpdate(this.#context, to, address + LENGTH, body, length - 1);
    library.EVP_CipherUpdate(this.#context, address + BYTE, address + LENGTH, body + length - 1, 1);
    if (library.EVP_CipherFinal_ex(this.#context, address + FINAL, address + LENGTH) !== 1) return false;
    this.sequence++;
    return true;
  }

  /** Begins to seal a record whose header is at `header`. Returns the address of its content. */
  beginSeal(header: number): number {
    this.#begin(header);
    return header + HEADER;
  }

  /** Seals `length` bytes at `from` to address `to`. Returns the address after them. */
  sealPart(to: number, from: number, length: number): number {
    if (length > 0) this.#library.EVP_CipherUpdate(this.#context, to, this.#address + LENGTH, from, length);
    return to + length;
  }

  /** Ends a record with its content type and the tag, at address `to`. */
  endSeal(to: number, type: number): void {
    const library = this.#library;
    const address = this.#address;
    this.#shared.setUint8(BYTE, type);
    library.EVP_CipherUpdate(this.#context, to, address + LENGTH, address + BYTE, 1);
    library.EVP_CipherFinal_ex(this.#context, address + FINAL, address + LENGTH);
    if (library.EVP_CIPHER_CTX_ctrl(this.#context, EVP_CTRL_AEAD_GET_TAG, TAG, to + 1) !== 1) {
      throw new Error('libcrypto failed to seal a record');
    }
    this.sequence++;
  }

  /** Switches to the next traffic secret, after a KeyUpdate. */
  update(): void {
    const next = nextSecret(this.#suite, this.#secret);
    this.#secret.fill(0);
    this.#secret = next;
    this.sequence = 0;
    this.#setKeys();
  }

  /** Frees the context. No other method may follow. */
  close(): void {
    this.#secret.fill(0);
    this.#library.EVP_CIPHER_CTX_free(this.#context);
  }

  #setKeys(): void {
    const library = this.#library;
    const { key, iv } = trafficKeys(this.#suite, this.#secret);
    const fixedKey = pinned(key);
    const words = new DataView(iv.buffer, iv.byteOffset);
    this.#shared.setUint32(NONCE, words.getUint32(0));
    this.#ivMiddle = words.getUint32(4);
    this.#ivEnd = words.getUint32(8);
    const cipher = library[CIPHER_SUITES[this.#suite].cipher]();
    const nonce = this.#address + NONCE;
    const encrypt = this.#seals ? 1 : 0;
    const done = library.EVP_CipherInit_ex(this.#context, cipher, 0, addressOf(fixedKey), nonce, encrypt);
    key.fill(0);
    fixedKey.fill(0);
    if (done !== 1) throw new Error(`libcrypto has no ${this.#suite}`);
  }

  /** Sets the nonce of the next record, and its header as additional data. */
  #begin(header: number): void {
    const library = this.#library;
    const high = Math.floor(this.sequence / 2 ** 32);
    this.#shared.setUint32(NONCE + 4, this.#ivMiddle ^ high);
    this.#shared.setUint32(NONCE + 8, this.#ivEnd ^ this.sequence);
    library.EVP_CipherInit_ex(this.#context, 0, 0, 0, this.#address + NONCE, -1);
    library.EVP_CipherUpdate(this.#context, 0, this.#address + LENGTH, header, HEADER);
  }
}
