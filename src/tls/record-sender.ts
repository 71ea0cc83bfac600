// The sending half of a TLS 1.3 session after its handshake: content in, records out.
//
// Used by the worker's TLS channel, which sends the records from the buffer. Allocates nothing for application data.
// Content is copied at once. Changes the keys in time, and when the peer requests it.

import { addressOf } from '../linux/libc.js';
import {
  ALERT,
  APPLICATION_DATA,
  CLOSE_NOTIFY,
  HANDSHAKE,
  HEADER,
  KEY_UPDATE,
  MAX_CONTENT,
  TAG,
} from './constants.js';
import { type Direction, RecordCipher } from './record-cipher.js';
import type { SuiteName } from './traffic-keys.js';

/** Size of the record buffer in bytes. */
const BUFFER = 128 * 1024;
/** Bytes of a record besides its content. */
const OVERHEAD = HEADER + 1 + TAG;
/** Bytes reserved for a KeyUpdate and an alert. */
const RESERVE = 64;

/** Most records under one key: the limit of AES-GCM is little more (RFC 8446, section 5.5). */
const MAX_RECORDS = 2 ** 24;

const WARNING = 1;
const FATAL = 2;

/** See the file's head. */
export class RecordSender {
  readonly #cipher: RecordCipher;
  readonly #buffer = new Uint8Array(new ArrayBuffer(BUFFER + RESERVE));
  readonly #address = addressOf(this.#buffer);
  readonly #message = new Uint8Array(new ArrayBuffer(8));
  readonly #messageAddress = addressOf(this.#message);
  #start = 0;
  #end = 0;
  #updateWanted = false;

  constructor(suite: SuiteName, from: Direction) {
    this.#cipher = new RecordCipher(suite, from, true);
  }

  /** Address of the unsent ciphertext. */
  get pendingAddress(): number {
    return this.#address + this.#start;
  }

  /** Bytes of unsent ciphertext. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /** Whether nothing is unsent, not even a requested change of keys. */
  get idle(): boolean {
    return this.#start === this.#end && !this.#updateWanted;
  }

  /** Reports that `count` bytes of ciphertext were sent. */
  sent(count: number): void {
    this.#start += count;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
  }

  /**
   * Seals one record with the beginning of two parts of content (each may be empty). Returns the count of
   * bytes sealed; 0: the buffer is full until something is sent.
   */
  add(first: number, firstLength: number, second: number, secondLength: number): number {
    const length = Math.min(firstLength + secondLength, MAX_CONTENT);
    if (this.#end + OVERHEAD + length > BUFFER) return 0;
    if (this.#cipher.sequence >= MAX_RECORDS - 1) this.#updateWanted = true;
    this.updateKeys();
    const ofFirst = Math.min(firstLength, length);
    this.#seal(APPLICATION_DATA, first, ofFirst, second, length - ofFirst);
    return length;
  }

  /** Requests a change of keys, before anything else is sealed. */
  wantUpdate(): void {
    this.#updateWanted = true;
  }

  /** Changes the keys if requested and the buffer has room for the KeyUpdate. */
  updateKeys(): void {
    if (!this.#updateWanted || this.#end > BUFFER) return;
    this.#updateWanted = false;
    // Type, a length of 1, and update_not_requested.
    this.#message.set([KEY_UPDATE, 0, 0, 1, 0]);
    this.#seal(HANDSHAKE, this.#messageAddress, 5, 0, 0);
    this.#cipher.update();
  }

  /** Seals an alert, the last record of the session. */
  alert(description: number): void {
    if (this.#end + OVERHEAD + 2 > this.#buffer.length) return;
    this.#message.set([description === CLOSE_NOTIFY ? WARNING : FATAL, description]);
    this.#seal(ALERT, this.#messageAddress, 2, 0, 0);
  }

  /** Frees the cipher. No other method may follow. */
  close(): void {
    this.#cipher.close();
  }

  #seal(type: number, first: number, firstLength: number, second: number, secondLength: number): void {
    const at = this.#end;
    const length = firstLength + secondLength + 1 + TAG;
    this.#buffer[at] = APPLICATION_DATA;
    this.#buffer[at + 1] = 3;
    this.#buffer[at + 2] = 3;
    this.#buffer[at + 3] = length >> 8;
    this.#buffer[at + 4] = length & 0xff;
    let to = this.#cipher.beginSeal(this.#address + at);
    to = this.#cipher.sealPart(to, first, firstLength);
    to = this.#cipher.sealPart(to, second, secondLength);
    this.#cipher.endSeal(to, type);
    this.#end = at + HEADER + length;
  }
}
