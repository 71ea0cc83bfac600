// The receiving half of a session, with good and bad records.

import { describe, expect, test } from 'vitest';
import { addressOf, libc } from '../../../src/linux/libc.js';
import { TlsError } from '../../../src/tls/errors.js';
import { RecordReceiver } from '../../../src/tls/record-receiver.js';
import { hex } from '../../support/hex.js';
import * as rfc8448 from '../../support/rfc8448.js';
import { PeerDirection, SUITES, type Suite, someSecret } from '../../support/tls-peer.js';

const SUITE = 'TLS_AES_256_GCM_SHA384';
const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];
const NOTHING = new Uint8Array(0);
const KEY_UPDATE = hex`18 000001 00 | KeyUpdate, 1 byte, update_not_requested`;
const KEY_UPDATE_REQUEST = hex`18 000001 01 | KeyUpdate, 1 byte, update_requested`;

const DATA_A = Buffer.from('first ');
const DATA_B = Buffer.from('second');

/** A receiver with its peer, and the content that it has returned. */
class Hearing {
  readonly peer: PeerDirection;
  readonly receiver: RecordReceiver;
  readonly #memory = new Uint8Array(new ArrayBuffer(256 * 1024));
  #got: Buffer[] = [];

  constructor(
    suite: Suite = SUITE,
    sequence = 0,
    begun: Uint8Array = NOTHING,
    secret = someSecret(suite, 0xa5),
  ) {
    this.peer = new PeerDirection(suite, secret, sequence);
    this.receiver = new RecordReceiver(suite, { secret, sequence }, begun);
  }

  /** Puts bytes into the receiver's buffer. */
  fill(bytes: Uint8Array): void {
    const fixed = new Uint8Array(new ArrayBuffer(bytes.length));
    fixed.set(bytes);
    libc.memcpy(this.receiver.makeSpace(), addressOf(fixed), fixed.length);
    this.receiver.filled(fixed.length);
  }

  /** Takes all content, at most `room` bytes at a time. */
  drain(room: number): void {
    for (;;) {
      const count = this.receiver.take(addressOf(this.#memory), room);
      this.#got.push(Buffer.from(this.#memory.subarray(0, count)));
      if (count < room) return;
    }
  }

  /** Receives `bytes` in parts, and returns all content. */
  hear(bytes: Uint8Array, piece = 64 * 1024, room = 128 * 1024): Buffer {
    this.#got = [];
    for (let at = 0; at < bytes.length; at += piece) {
      this.fill(bytes.subarray(at, at + piece));
      this.drain(room);
    }
    return Buffer.concat(this.#got);
  }
}

function failureOf(act: () => unknown): TlsError {
  try {
    act();
  } catch (error) {
    if (error instanceof TlsError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

const numbered = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => (i * 7) % 251));

describe('TLS receiver: trace of RFC 8448, section 3', () => {
  const stream = Buffer.concat([rfc8448.SERVER_TICKET, rfc8448.SERVER_DATA, rfc8448.SERVER_CLOSE]);
  const receive = (piece: number) => {
    const hearing = new Hearing('TLS_AES_128_GCM_SHA256', 0, NOTHING, rfc8448.SERVER_SECRET);
    return { content: new Uint8Array(hearing.hear(stream, piece)), receiver: hearing.receiver };
  };

  test('gives the 50 bytes behind the ticket, and ends with close_notify', () => {
    const { content, receiver } = receive(stream.length);
    expect(content).toEqual(rfc8448.DATA);
    expect(receiver.ended).toBe(true);
  });

  test('gives the same byte by byte', () => {
    const { content, receiver } = receive(1);
    expect(content).toEqual(rfc8448.DATA);
    expect(receiver.ended).toBe(true);
  });
});

describe.each(SUITES)('TLS receiver with %s', (suite) => {
  test('returns contents of all sizes as they were sealed, for any cut and any room', () => {
    const sizes = [1, 2, 15, 16, 17, 28, 4096, 16_383, 16_384];
    for (const [piece, room] of [
      [1000, 128 * 1024],
      [64 * 1024, 10],
      [777, 4096],
      [100_000, 16_384],
      [100_000, 16_385],
    ]) {
      const hearing = new Hearing(suite);
      const contents = sizes.map(numbered);
      const stream = Buffer.concat(
        contents.map((content, i) => hearing.peer.seal(DATA, content, content.length < 10_000 ? i % 3 : 0)),
      );
      expect(hearing.hear(stream, piece, room).equals(Buffer.concat(contents))).toBe(true);
    }
  });

  test('refuses a record that was changed anywhere, or that comes twice', () => {
    const content = numbered(40);
    const { length } = new Hearing(suite).peer.seal(DATA, content);
    // A changed type or length is refused before it comes to the tag.
    for (const at of [1, 2, ...Array.from({ length: length - 5 }, (_, i) => i + 5)]) {
      const hearing = new Hearing(suite);
      const record = hearing.peer.seal(DATA, content);
      record[at] ^= 0x10;
      const failure = failureOf(() => hearing.hear(record));
      expect(failure).toMatchObject({ message: expect.stringContaining('tag'), alert: 20, breach: true });
    }
    const hearing = new Hearing(suite);
    const record = hearing.peer.seal(DATA, content);
    hearing.hear(record);
    expect(failureOf(() => hearing.hear(record)).alert).toBe(20);
  });

  test('follows a key update, twice too', () => {
    const hearing = new Hearing(suite);
    const parts: Buffer[] = [];
    for (const update of [KEY_UPDATE, KEY_UPDATE]) {
      parts.push(hearing.peer.seal(DATA, numbered(100)), hearing.peer.seal(HANDSHAKE, update));
      hearing.peer.update();
    }
    parts.push(hearing.peer.seal(DATA, numbered(100)));
    expect(hearing.hear(Buffer.concat(parts), 50).length).toBe(300);
    expect(hearing.receiver.updateRequested).toBe(false);
  });
});

describe('TLS receiver: sequence number', () => {
  test.each([1, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5])('continues from %d', (sequence) => {
    const hearing = new Hearing(SUITE, sequence);
    const stream = Buffer.concat([hearing.peer.seal(DATA, DATA_A), hearing.peer.seal(DATA, DATA_B)]);
    expect(hearing.hear(stream).toString()).toBe('first second');
  });
});

describe('TLS receiver: data that poll(2) does not see', () => {
  test('is reported: a whole record, or content that did not fit', () => {
    const hearing = new Hearing();
    const stream = Buffer.concat([hearing.peer.seal(DATA, DATA_A), hearing.peer.seal(DATA, DATA_B)]);
    hearing.fill(stream.subarray(0, -1));
    expect(hearing.receiver.buffered).toBe(true);
    const memory = new Uint8Array(new ArrayBuffer(64));
    expect(hearing.receiver.take(addressOf(memory), 2)).toBe(2);
    expect(hearing.receiver.buffered).toBe(true);
    expect(hearing.receiver.take(addressOf(memory), 64)).toBe(4);
    expect(hearing.receiver.buffered).toBe(false);
    hearing.fill(stream.subarray(-1));
    expect(hearing.receiver.buffered).toBe(true);
  });

  test('may have arrived before the session was taken over', () => {
    const record = new Hearing().peer.seal(DATA, DATA_A);
    const hearing = new Hearing(SUITE, 0, record.subarray(0, 9));
    expect(hearing.hear(record.subarray(9)).toString()).toBe('first ');
  });
});

describe('TLS receiver: other content', () => {
  const ticket = (length: number): Buffer =>
    Buffer.concat([Buffer.from([4, 0, length >> 8, length & 0xff]), Buffer.alloc(length, 1)]);

  test('tickets are skipped, several in a record and one in several records', () => {
    const hearing = new Hearing();
    const { peer } = hearing;
    const long = ticket(5000);
    const stream = Buffer.concat([
      peer.seal(HANDSHAKE, Buffer.concat([ticket(10), ticket(20)]), 5),
      peer.seal(HANDSHAKE, long.subarray(0, 2)),
      peer.seal(HANDSHAKE, long.subarray(2, 3000)),
      peer.seal(HANDSHAKE, long.subarray(3000)),
      peer.seal(DATA, DATA_B),
    ]);
    expect(hearing.hear(stream, 1000, 6).toString()).toBe('second');
  });

  test('a key update that requests ours is reported', () => {
    const hearing = new Hearing();
    hearing.hear(hearing.peer.seal(HANDSHAKE, KEY_UPDATE_REQUEST));
    hearing.peer.update();
    expect(hearing.receiver.updateRequested).toBe(true);
    expect(hearing.hear(hearing.peer.seal(DATA, DATA_B)).toString()).toBe('second');
  });

  test('user_canceled has no effect, and close_notify ends the input', () => {
    const hearing = new Hearing();
    const { peer } = hearing;
    const alerts = [90, 0].map((description) => peer.seal(ALERT, Uint8Array.of(1, description)));
    expect(hearing.hear(Buffer.concat([...alerts, peer.seal(DATA, DATA_B)])).length).toBe(0);
    expect(hearing.receiver.ended).toBe(true);
    expect(hearing.receiver.buffered).toBe(false);
  });

  test.each([
    [20, 'bad_record_mac'],
    [80, 'internal_error'],
    [200, '200'],
  ])('the alert %d is the end, and no breach', (description, name) => {
    const hearing = new Hearing();
    const alert = hearing.peer.seal(ALERT, Uint8Array.of(2, description));
    const failure = failureOf(() => hearing.hear(alert));
    expect(failure.message).toBe(`the server ended TLS with the alert ${name}`);
    expect(failure.breach).toBe(false);
  });
});

describe('TLS receiver: a breach', () => {
  const header = (type: number, length: number): Buffer =>
    Buffer.from([type, 3, 3, length >> 8, length & 0xff]);
  const breaches: [string, (peer: PeerDirection) => Uint8Array, RegExp, number][] = [
    ['an outer type that is not of encrypted records', () => header(22, 40), /type 22 is not encrypted/, 10],
    ['more than 16640 bytes', () => header(23, 16_641), /has 16641 bytes/, 22],
    ['nothing but a tag', () => header(23, 16), /only 16 bytes/, 20],
    ['more than 16384 bytes of content', (peer) => peer.seal(DATA, new Uint8Array(16_385)), /holds/, 22],
    ['no content type', (peer) => peer.sealRaw(new Uint8Array(30)), /no content type/, 10],
    ['a content type that is not known', (peer) => peer.seal(20, DATA_A), /content of type 20/, 10],
    ['an empty handshake record', (peer) => peer.seal(HANDSHAKE, NOTHING), /content of type 22/, 10],
    ['an alert of one byte', (peer) => peer.seal(ALERT, Uint8Array.of(1)), /alert has 1 bytes/, 50],
    [
      'a message of the handshake',
      (peer) => peer.seal(HANDSHAKE, hex`0d 000001 00 | CertificateRequest`),
      /type 13 came after/,
      10,
    ],
    [
      'a key update of the wrong size',
      (peer) => peer.seal(HANDSHAKE, hex`18 000002 0000`),
      /type 24 has 2 bytes/,
      50,
    ],
    ['a key update that asks for 2', (peer) => peer.seal(HANDSHAKE, hex`18 000001 02`), /asks for 2/, 47],
    [
      'a key update with something behind it',
      (peer) => peer.seal(HANDSHAKE, Buffer.concat([KEY_UPDATE, KEY_UPDATE])),
      /not the end of its record/,
      10,
    ],
    ['a ticket without an end', (peer) => peer.seal(HANDSHAKE, hex`04 ffffff`), /has 16777215 bytes/, 50],
    [
      'data in the middle of a message',
      (peer) => Buffer.concat([peer.seal(HANDSHAKE, hex`04 0000`), peer.seal(DATA, DATA_A)]),
      /interrupted/,
      10,
    ],
    [
      'records that bring nothing, without an end',
      (peer) => Buffer.concat(Array.from({ length: 33 }, () => peer.seal(DATA, NOTHING))),
      /33 TLS records in a row/,
      10,
    ],
  ];

  test.each(breaches)('%s', (_name, make, message, alert) => {
    for (const piece of [1, 64 * 1024]) {
      const hearing = new Hearing();
      const stream = make(hearing.peer);
      const failure = failureOf(() => hearing.hear(stream, piece));
      expect(failure).toMatchObject({ message: expect.stringMatching(message), alert, breach: true });
    }
  });

  test('returns the content before it, and nothing of it', () => {
    const hearing = new Hearing();
    const bad = hearing.peer.seal(DATA, DATA_A);
    const second = hearing.peer.seal(DATA, DATA_B);
    second[second.length - 1] ^= 1;
    hearing.fill(bad);
    hearing.drain(6 + 1);
    hearing.fill(second);
    expect(() => hearing.drain(1000)).toThrow(TlsError);
  });
});

test('TLS receiver: accepts 32 empty records, and counts anew after data', () => {
  const hearing = new Hearing();
  const { peer } = hearing;
  const nothing = () => Array.from({ length: 32 }, () => peer.seal(DATA, NOTHING, 3));
  const stream = [...nothing(), peer.seal(DATA, DATA_A), ...nothing(), peer.seal(DATA, DATA_B)];
  expect(hearing.hear(Buffer.concat(stream)).toString()).toBe('first second');
});
