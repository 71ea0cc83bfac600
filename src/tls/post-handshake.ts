// The handshake messages that a server may send in the transmission phase: tickets and KeyUpdate.
//
// Used by the record receiver, which gives it the content of handshake records, and when a session is
// taken over. Pure. Tickets are skipped: sessions are not resumed. RFC 8446, sections 4.6 and 5.1.

import {
  DECODE_ERROR,
  ILLEGAL_PARAMETER,
  KEY_UPDATE,
  NEW_SESSION_TICKET,
  UNEXPECTED_MESSAGE,
} from './constants.js';
import { TlsError } from './errors.js';

/** Bytes of a message's header: type, and three of length. */
const MESSAGE_HEADER = 4;
/** Bytes of a ticket's message at most: two fields of 16 bits' length, and little else. */
const MAX_TICKET = 2 * 65_536 + 64;

/** What a record has brought. */
export const NOTHING = 0;
/** The peer's keys change behind this record. */
export const PEER_UPDATES = 1;
/** As before, and it wants ours to change, too. */
export const PEER_WANTS_UPDATE = 2;

/** See the file's head. */
export class PostHandshake {
  readonly #header = new Uint8Array(MESSAGE_HEADER);
  #headerLength = 0;
  #left = 0;

  /** Whether a message has begun that is not over: nothing but handshake records may follow. */
  get inMessage(): boolean {
    return this.#headerLength > 0;
  }

  /** Takes one record's content, `bytes[start, end)`. @throws TlsError naming the rule that was broken */
  receive(bytes: Uint8Array, start: number, end: number): number {
    for (let at = start; at < end; ) {
      if (this.#headerLength < MESSAGE_HEADER) {
        this.#header[this.#headerLength++] = bytes[at++];
        if (this.#headerLength < MESSAGE_HEADER) continue;
        this.#left = (this.#header[1] << 16) | (this.#header[2] << 8) | this.#header[3];
        this.#check();
        continue;
      }
      if (this.#header[0] === KEY_UPDATE) {
        if (end - at > 1)
          throw new TlsError('a TLS key update is not the end of its record', UNEXPECTED_MESSAGE);
        this.#headerLength = 0;
        return keyUpdate(bytes[at]);
      }
      const skipped = Math.min(this.#left, end - at);
      this.#left -= skipped;
      at += skipped;
      if (this.#left === 0) this.#headerLength = 0;
    }
    return NOTHING;
  }

  #check(): void {
    const type = this.#header[0];
    if (type === KEY_UPDATE && this.#left === 1) return;
    if (type === NEW_SESSION_TICKET && this.#left > 0 && this.#left <= MAX_TICKET) return;
    if (type === KEY_UPDATE || type === NEW_SESSION_TICKET) {
      throw new TlsError(`a TLS handshake message of type ${type} has ${this.#left} bytes`, DECODE_ERROR);
    }
    throw new TlsError(
      `a TLS handshake message of type ${type} came after the handshake`,
      UNEXPECTED_MESSAGE,
    );
  }
}

function keyUpdate(requested: number): number {
  if (requested > 1) throw new TlsError(`a TLS key update asks for ${requested}`, ILLEGAL_PARAMETER);
  return requested === 1 ? PEER_WANTS_UPDATE : PEER_UPDATES;
}
