// Protection of the records of one direction: keys, nonces and the sequence number.
//
// Used by the record receiver and sender, one each. A record costs a handful of calls into libcrypto and
// no allocation. Owns its EVP context, which `close` frees. RFC 8446, sections 5.2 and 5.3.

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

/** Where one direction of a session stands. */
export interface Direction {
  /** Traffic secret: its bytes are to be overwritten when it is of no use any more. */
  readonly secret: Uint8Array;
  /** Sequence number of the next record, below 2^53. */
  readonly sequence: number;
}

/** Places in the memory that is shared with libcrypto: nonce, a length, one byte, what Final gives. */
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

  /** @throws Error where libcrypto does not do what it must */
  constructor(suite: SuiteName, { secret, sequence }: Direction, seals: boolean) {
    const library = libcrypto();
    if (library === undefined) throw new Error('this node shows no libcrypto');
    this.#library = library;
    this.#suite = suite;
    this.#seals = seals;
    this.#secret = Uint8Array.from(secret);
    this.sequence = sequence;
    this.#context = library.EVP_CIPHER_CTX_new();
    this.#setKeys();
  }

  /** The byte that `open` has found at the end of the plaintext: the content type, or padding. */
  get lastByte(): number {
    return this.#shared.getUint8(BYTE);
  }

  /**
   * Opens a record: its header is at `header`, and `length` bytes of content, content type and padding
   * (at least 1), then the tag, follow. All but the last byte of them go to `to`, which may be where
   * they come from. Returns whether the tag was right: otherwise nothing at `to` may be used.
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

  /** Goes on with the next traffic secret, after a KeyUpdate. */
  update(): void {
    const next = nextSecret(this.#suite, this.#secret);
    this.#secret.fill(0);
    this.#secret = next;
    this.sequence = 0;
    this.#setKeys();
  }

  /** Frees the context; nothing may be called afterwards. */
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

  /** Sets the nonce of the next record, and its header as what is authenticated besides. */
  #begin(header: number): void {
    const library = this.#library;
    const high = Math.floor(this.sequence / 2 ** 32);
    this.#shared.setUint32(NONCE + 4, this.#ivMiddle ^ high);
    this.#shared.setUint32(NONCE + 8, this.#ivEnd ^ this.sequence);
    library.EVP_CipherInit_ex(this.#context, 0, 0, 0, this.#address + NONCE, -1);
    library.EVP_CipherUpdate(this.#context, 0, this.#address + LENGTH, header, HEADER);
  }
}
