// The state for taking over a TLS 1.3 session from Node, and how to find it. RFC 8446, section 5.3.
//
// Node does not reveal the sequence numbers, so they are tried on the last record of each direction: a record opens
// only with its own.

import { addressOf } from '../linux/libc.js';
import { libcrypto } from '../linux/libcrypto.js';
import { APPLICATION_DATA, HANDSHAKE, HEADER, TAG } from './constants.js';
import { NOTHING, PostHandshake } from './post-handshake.js';
import { type Direction, RecordCipher } from './record-cipher.js';
import type { SuiteName } from './traffic-keys.js';

/** A session in its transmission phase: plain data for the worker. Secret, not to be logged. */
export interface TlsState {
  readonly suite: SuiteName;
  readonly receiving: Direction;
  readonly sending: Direction;
  /** Received ciphertext: the beginning of a record, or empty. */
  readonly begun: Uint8Array;
}

/** Most records of a session before the worker takes it over. */
const MAX_SEQUENCE = 1024;

/**
 * The state of a direction after its last complete record `record`, header first; undefined if it cannot be determined,
 * or a handshake message is incomplete.
 */
export function standing(suite: SuiteName, secret: Uint8Array, record: Uint8Array): Direction | undefined {
  const length = record.length - HEADER - TAG;
  const library = libcrypto();
  if (library === undefined || length < 1) return undefined;
  const bytes = new Uint8Array(new ArrayBuffer(record.length + length));
  bytes.set(record);
  const address = addressOf(bytes);
  let cipher: RecordCipher | undefined;
  try {
    cipher = new RecordCipher(suite, { secret, sequence: 0 }, false);
    for (let sequence = 0; sequence < MAX_SEQUENCE; sequence++) {
      cipher.sequence = sequence;
      if (!cipher.open(address, length, address + record.length)) continue;
      const whole = isWhole(bytes.subarray(record.length, -1), cipher.lastByte);
      return whole ? { secret, sequence: sequence + 1 } : undefined;
    }
  } catch {
    // libcrypto lacks the cipher, or the record has an invalid message.
  } finally {
    cipher?.close();
    bytes.fill(0);
    // Errors left in the queue would count as errors of another session.
    library.ERR_clear_error();
  }
  return undefined;
}

/** Whether a record with this content ends all messages and changes no keys. */
function isWhole(content: Uint8Array, type: number): boolean {
  if (type === APPLICATION_DATA) return true;
  if (type !== HANDSHAKE) return false;
  const messages = new PostHandshake();
  return messages.receive(content, 0, content.length) === NOTHING && !messages.inMessage;
}

/** Overwrites a session's secrets. */
export function forgetSecrets({ receiving, sending }: TlsState): void {
  receiving.secret.fill(0);
  sending.secret.fill(0);
}
