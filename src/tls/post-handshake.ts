// The handshake messages of the transmission phase: tickets and KeyUpdate. RFC 8446, sections 4.6 and 5.1.
//
// Receives the content of handshake records. Pure. Tickets are skipped, as sessions are not resumed.

import {
  DECODE_ERROR,
  ILLEGAL_PARAMETER,
  KEY_UPDATE,
  NEW_SESSION_TICKET,
  UNEXPECTED_MESSAGE,
} from './constants.js';
import { TlsError } from './errors.js';

/** Length of a message header in bytes: type, and three bytes of length. */
const MESSAGE_HEADER = 4;
/** Longest ticket message in bytes: two fields with 16-bit lengths, and little else. */
const MAX_TICKET = 2 * 65_536 + 64;

/** Result of `receive`: nothing to do. */
export const NOTHING = 0;
/** Result of `receive`: the peer's keys change after this record. */
export const PEER_UPDATES = 1;
/** Result of `receive`: as PEER_UPDATES, and our keys must change as well. */
export const PEER_WANTS_UPDATE = 2;

/** See the file's head. */
export class PostHandshake {
  readonly #header = new Uint8Array(MESSAGE_HEADER);
  #headerLength = 0;
  #left = 0;

  /** Whether a message is incomplete: only handshake records may follow. */
  get inMessage(): boolean {
    return this.#headerLength > 0;
  }

  /** Reads the content of one record, `bytes[start, end)`. @throws TlsError with the violated rule */
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
