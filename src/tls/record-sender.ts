// Content in, records out: the sending half of a TLS 1.3 session after its handshake.
//
// Used by the bridge's TLS channel, which sends what gathers in the buffer. Knows no sockets, and
// allocates nothing for records of application data. What was given to it belongs to the caller again at
// once. Changes the keys in time, and when the peer has asked for it.

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

/** Bytes of records to gather: many small ones, or some of the largest. */
const BUFFER = 128 * 1024;
/** Bytes of a record besides its content. */
const OVERHEAD = HEADER + 1 + TAG;
/** Bytes kept free for a KeyUpdate and an alert. */
const RESERVE = 64;

/** Records under one key at most: AES-GCM wears out soon after (RFC 8446, section 5.5). */
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

  /** Address of the ciphertext that waits to be sent. */
  get pendingAddress(): number {
    return this.#address + this.#start;
  }

  /** Bytes of ciphertext that wait to be sent. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /** Whether nothing waits to be sent, not even a promised change of keys. */
  get idle(): boolean {
    return this.#start === this.#end && !this.#updateWanted;
  }

  /** Says that `count` bytes of what waited were sent. */
  sent(count: number): void {
    this.#start += count;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
  }

  /**
   * Seals as much as one record holds of two pieces (each may be empty), the first one first.
   * Returns how many bytes that was: 0 when there is no room before something was sent.
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

  /** The peer wants our keys to change: that happens before anything else is sealed. */
  wantUpdate(): void {
    this.#updateWanted = true;
  }

  /** Changes the keys if that is wanted and there is room to say so. */
  updateKeys(): void {
    if (!this.#updateWanted || this.#end > BUFFER) return;
    this.#updateWanted = false;
    // Type, a length of 1, and that the peer's keys need not change.
    this.#message.set([KEY_UPDATE, 0, 0, 1, 0]);
    this.#seal(HANDSHAKE, this.#messageAddress, 5, 0, 0);
    this.#cipher.update();
  }

  /** Seals an alert, the last thing to be sent. */
  alert(description: number): void {
    if (this.#end + OVERHEAD + 2 > this.#buffer.length) return;
    this.#message.set([description === CLOSE_NOTIFY ? WARNING : FATAL, description]);
    this.#seal(ALERT, this.#messageAddress, 2, 0, 0);
  }

  /** Frees what it holds; nothing may be called afterwards. */
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
