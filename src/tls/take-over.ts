// What is needed to go on with a TLS 1.3 session that somebody else has begun, and how to find it out.
//
// The sequence numbers are found by trying them on the last record of each direction: a record opens
// with its own only. RFC 8446, section 5.3.

import { addressOf } from '../linux/libc.js';
import { libcrypto } from '../linux/libcrypto.js';
import { APPLICATION_DATA, HANDSHAKE, HEADER, TAG } from './constants.js';
import { NOTHING, PostHandshake } from './post-handshake.js';
import { type Direction, RecordCipher } from './record-cipher.js';
import type { SuiteName } from './traffic-keys.js';

/** A session in its transmission phase: plain data, which crosses to the worker. Not to be logged. */
export interface TlsState {
  readonly suite: SuiteName;
  readonly receiving: Direction;
  readonly sending: Direction;
  /** Ciphertext that was received: the beginning of a record, or nothing. */
  readonly begun: Uint8Array;
}

/** Records that a session may have exchanged before it is taken over. */
const MAX_SEQUENCE = 1024;

/**
 * Where a direction stands whose last whole record (header first) is `record`; undefined when that
 * cannot be told, or a message has begun that is not over.
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
    // libcrypto lacks what it needs, or the record is nothing to go on after.
  } finally {
    cipher?.close();
    bytes.fill(0);
    // Errors left in its queue would be taken for those of another session.
    library.ERR_clear_error();
  }
  return undefined;
}

/** Whether no message goes on behind a record with this content, which changes no keys. */
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
