// The receiving half of a TLS 1.3 session after its handshake: records in, content out.
//
// Used by the worker's TLS channel, which fills the buffer from its socket. Allocates nothing for application data.
// Content leaves only after its tag is verified: straight to its destination if it fits, otherwise through the buffer.
// Every violation throws TlsError; the connection must be closed then.

import { addressOf, libc } from '../linux/libc.js';
import {
  ALERT,
  APPLICATION_DATA,
  alertName,
  BAD_RECORD_MAC,
  CLOSE_NOTIFY,
  DECODE_ERROR,
  HANDSHAKE,
  HEADER,
  MAX_CIPHERTEXT,
  MAX_CONTENT,
  RECORD_OVERFLOW,
  TAG,
  UNEXPECTED_MESSAGE,
  USER_CANCELED,
} from './constants.js';
import { TlsError } from './errors.js';
import { NOTHING, PEER_WANTS_UPDATE, PostHandshake } from './post-handshake.js';
import { type Direction, RecordCipher } from './record-cipher.js';
import type { SuiteName } from './traffic-keys.js';

/** Size of the ciphertext buffer in bytes. */
export const RECEIVE_BUFFER = 256 * 1024;

/** Most records in a row without application data. */
const MAX_IDLE_RECORDS = 32;

/** See the file's head. */
export class RecordReceiver {
  /** Whether the peer has sent close_notify. */
  ended = false;
  /** Whether the peer has requested a change of our keys. The caller resets it. */
  updateRequested = false;
  readonly #cipher: RecordCipher;
  readonly #messages = new PostHandshake();
  readonly #buffer: Uint8Array;
  readonly #address: number;
  #start = 0;
  #end = 0;
  /** Opened content in the buffer that `take` has not returned yet. */
  #contentStart = 0;
  #contentEnd = 0;
  #idleRecords = 0;

  /**
   * @param begun ciphertext received before: the beginning of a record
   * @param buffer RECEIVE_BUFFER bytes for this receiver only; they never move
   */
  constructor(
    suite: SuiteName,
    from: Direction,
    begun: Uint8Array,
    buffer: Uint8Array = new Uint8Array(new ArrayBuffer(RECEIVE_BUFFER)),
  ) {
    this.#buffer = buffer;
    this.#address = addressOf(buffer);
    this.#cipher = new RecordCipher(suite, from, false);
    this.#buffer.set(begun);
    this.#end = begun.length;
  }

  /** Whether `take` has data that poll(2) does not report. */
  get buffered(): boolean {
    return this.#contentStart < this.#contentEnd || (!this.ended && this.#recordLength() > 0);
  }

  /** Returns the address for the next ciphertext. To be called when `take` has nothing left. */
  makeSpace(): number {
    if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return this.#address + this.#end;
  }

  /** Bytes of room at the address from `makeSpace`. */
  get space(): number {
    return RECEIVE_BUFFER - this.#end;
  }

  /** Reports that `count` bytes were written to the address from `makeSpace`. */
  filled(count: number): void {
    this.#end += count;
  }

  /**
   * Writes up to `length` bytes (at least 1) of content to `to`. Returns the count: fewer than `length` only if no
   * complete record is left, or the peer has ended.
   * @throws TlsError
   */
  take(to: number, length: number): number {
    let got = 0;
    for (;;) {
      const ready = Math.min(this.#contentEnd - this.#contentStart, length - got);
      if (ready > 0) {
        libc.memcpy(to + got, this.#address + this.#contentStart, ready);
        this.#contentStart += ready;
        got += ready;
      }
      if (got === length || this.ended) return got;
      const record = this.#recordLength();
      if (record === 0) return got;
      got += this.#open(record, to + got, length - got);
    }
  }

  /** Frees the cipher. No other method may follow. */
  close(): void {
    this.#cipher.close();
  }

  /** Bytes after the header of the next record; 0 while it is incomplete. @throws TlsError */
  #recordLength(): number {
    const have = this.#end - this.#start - HEADER;
    if (have < 0) return 0;
    const at = this.#start;
    const length = (this.#buffer[at + 3] << 8) | this.#buffer[at + 4];
    if (this.#buffer[at] !== APPLICATION_DATA) {
      throw new TlsError(`a TLS record of type ${this.#buffer[at]} is not encrypted`, UNEXPECTED_MESSAGE);
    }
    if (length > MAX_CIPHERTEXT) throw new TlsError(`a TLS record has ${length} bytes`, RECORD_OVERFLOW);
    if (length <= TAG) throw new TlsError(`a TLS record has only ${length} bytes`, BAD_RECORD_MAC);
    return have < length ? 0 : length;
  }

  /** Opens the next record, to `to` if `room` bytes are enough. Returns the count of bytes written there. */
  #open(record: number, to: number, room: number): number {
    const header = this.#start;
    const body = header + HEADER;
    const content = record - TAG - 1;
    const direct = content <= room;
    const address = this.#address;
    if (!this.#cipher.open(address + header, content + 1, direct ? to : address + body)) {
      throw new TlsError('a TLS record fails authentication: its tag is wrong', BAD_RECORD_MAC);
    }
    if (content > MAX_CONTENT) throw new TlsError(`a TLS record holds ${content} bytes`, RECORD_OVERFLOW);
    this.#start = body + record;
    const type = this.#cipher.lastByte;
    if (type === APPLICATION_DATA && content > 0 && !this.#messages.inMessage) {
      this.#idleRecords = 0;
      if (direct) return content;
      this.#contentStart = body;
      this.#contentEnd = body + content;
      return 0;
    }
    // Rare: padding, or no application data.
    if (direct) libc.memcpy(address + body, to, content);
    this.#buffer[body + content] = type;
    this.#takeUnusual(body, body + content + 1);
    return 0;
  }

  /** Handles the content, content type and padding in the buffer from `start` to `end`. */
  #takeUnusual(start: number, end: number): void {
    let typeAt = end - 1;
    while (typeAt >= start && this.#buffer[typeAt] === 0) typeAt--;
    if (typeAt < start) throw new TlsError('a TLS record has no content type', UNEXPECTED_MESSAGE);
    const type = this.#buffer[typeAt];
    if (type !== HANDSHAKE && this.#messages.inMessage) {
      throw new TlsError('a TLS handshake message was interrupted', UNEXPECTED_MESSAGE);
    }
    if (type === APPLICATION_DATA && typeAt > start) {
      this.#idleRecords = 0;
      this.#contentStart = start;
      this.#contentEnd = typeAt;
      return;
    }
    if (++this.#idleRecords > MAX_IDLE_RECORDS) {
      throw new TlsError(`${this.#idleRecords} TLS records in a row were empty`, UNEXPECTED_MESSAGE);
    }
    if (type === APPLICATION_DATA) return;
    if (type === ALERT) this.#takeAlert(start, typeAt);
    else if (type === HANDSHAKE && typeAt > start) this.#takeMessages(start, typeAt);
    else throw new TlsError(`a TLS record has a content of type ${type}`, UNEXPECTED_MESSAGE);
  }

  #takeAlert(start: number, end: number): void {
    if (end - start !== 2) throw new TlsError(`a TLS alert has ${end - start} bytes`, DECODE_ERROR);
    const description = this.#buffer[start + 1];
    if (description === CLOSE_NOTIFY) this.ended = true;
    else if (description !== USER_CANCELED) {
      throw new TlsError(`the server ended TLS with the alert ${alertName(description)}`);
    }
  }

  #takeMessages(start: number, end: number): void {
    const brought = this.#messages.receive(this.#buffer, start, end);
    if (brought === NOTHING) return;
    this.#cipher.update();
    if (brought === PEER_WANTS_UPDATE) this.updateRequested = true;
  }
}
