// The records that the sending half of a session makes.

import { describe, expect, test } from 'vitest';
import { addressOf, libc } from '../../../src/linux/libc.js';
import { RecordSender } from '../../../src/tls/record-sender.js';
import { hex } from '../../support/hex.js';
import * as rfc8448 from '../../support/rfc8448.js';
import { PeerDirection, SUITES, type Suite, someSecret, splitRecords } from '../../support/tls-peer.js';

const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];
const LIMIT = 2 ** 24;

/** A sender, the memory that it sends from, and the sent bytes. */
class Speaking {
  readonly peer: PeerDirection;
  readonly sender: RecordSender;
  readonly memory = new Uint8Array(new ArrayBuffer(256 * 1024)).map((_, i) => (i * 7) % 251);
  readonly #address = addressOf(this.memory);

  constructor(suite: Suite = 'TLS_AES_256_GCM_SHA384', sequence = 0, secret = someSecret(suite, 0x5a)) {
    this.peer = new PeerDirection(suite, secret, sequence);
    this.sender = new RecordSender(suite, { secret, sequence });
  }

  /** Passes two parts of the memory to the sender. */
  add(first: number, firstLength: number, second = 0, secondLength = 0): number {
    return this.sender.add(this.#address + first, firstLength, this.#address + second, secondLength);
  }

  /** Up to `count` bytes of ciphertext, which count as sent. */
  send(count = this.sender.pending): Uint8Array {
    const sent = Buffer.from(readMemory(this.sender.pendingAddress, count));
    this.sender.sent(count);
    return sent;
  }

  /** All waiting records, opened. */
  hear(): { type: number; content: Buffer }[] {
    return splitRecords(this.send()).map((record) => this.peer.open(record));
  }
}

function readMemory(address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(Math.max(length, 1)));
  libc.memcpy(addressOf(bytes), address, length);
  return bytes.subarray(0, length);
}

test('TLS sender: produces the records of a client in RFC 8448, section 3, byte for byte', () => {
  const speaking = new Speaking('TLS_AES_128_GCM_SHA256', 0, rfc8448.CLIENT_SECRET);
  speaking.memory.set(rfc8448.DATA);
  expect(speaking.add(0, 50)).toBe(50);
  speaking.sender.alert(0);
  expect(new Uint8Array(speaking.send())).toEqual(
    new Uint8Array([...rfc8448.CLIENT_DATA, ...rfc8448.CLIENT_CLOSE]),
  );
});

describe.each(SUITES)('TLS sender with %s', (suite) => {
  test('the peer opens records of one part and of two', () => {
    const speaking = new Speaking(suite);
    expect(speaking.add(0, 28)).toBe(28);
    expect(speaking.add(0, 28, 1000, 4096)).toBe(28 + 4096);
    expect(speaking.add(0, 0, 5000, 1)).toBe(1);
    const { memory } = speaking;
    expect(speaking.hear()).toEqual(
      [
        memory.subarray(0, 28),
        Buffer.concat([memory.subarray(0, 28), memory.subarray(1000, 5096)]),
        memory.subarray(5000, 5001),
      ].map((content) => ({ type: DATA, content: Buffer.from(content) })),
    );
  });

  test('a record has at most 16384 bytes', () => {
    const speaking = new Speaking(suite);
    expect(speaking.add(0, 28, 100, 20_000)).toBe(16_384);
    expect(speaking.add(0, 28, 100, 16_356)).toBe(16_384);
    expect(speaking.hear().map(({ content }) => content.length)).toEqual([16_384, 16_384]);
  });
});

test('TLS sender: accepts no more than it has room for, until that was sent', () => {
  const speaking = new Speaking();
  let count = 0;
  while (speaking.add(0, 16_384) > 0) count++;
  expect(count).toBeGreaterThan(2);
  const all = [speaking.send(1000)];
  expect(speaking.add(0, 16_384)).toBe(0);
  all.push(speaking.send());
  expect(speaking.sender.idle).toBe(true);
  expect(speaking.add(0, 16_384)).toBe(16_384);
  expect(splitRecords(Buffer.concat(all)).map((record) => speaking.peer.open(record).type)).toEqual(
    Array(count).fill(DATA),
  );
});

describe('TLS sender: keys', () => {
  const update = { type: HANDSHAKE, content: Buffer.from(hex`18 000001 00 | KeyUpdate, not requested`) };

  test('change before anything else when the peer has requested that', () => {
    const speaking = new Speaking();
    speaking.sender.wantUpdate();
    expect(speaking.sender.idle).toBe(false);
    speaking.add(0, 5);
    const [first, second] = splitRecords(speaking.send());
    expect(speaking.peer.open(first)).toEqual(update);
    speaking.peer.update();
    expect(speaking.peer.open(second).content).toEqual(Buffer.from(speaking.memory.subarray(0, 5)));
  });

  test('change although there is nothing to send, once for several requests', () => {
    const speaking = new Speaking();
    speaking.sender.wantUpdate();
    speaking.sender.wantUpdate();
    speaking.sender.updateKeys();
    speaking.sender.updateKeys();
    expect(speaking.hear()).toEqual([update]);
    expect(speaking.sender.idle).toBe(true);
  });

  test('change before they have protected 2^24 records', () => {
    const speaking = new Speaking('TLS_AES_128_GCM_SHA256', LIMIT - 2);
    speaking.add(0, 1);
    speaking.add(0, 2);
    const [last, keys, fresh] = splitRecords(speaking.send());
    expect(speaking.peer.open(last).content.length).toBe(1);
    expect(speaking.peer.open(keys)).toEqual(update);
    expect(speaking.peer.sequence).toBe(LIMIT);
    speaking.peer.update();
    expect(speaking.peer.open(fresh).content.length).toBe(2);
  });
});

test('TLS sender: an alert fits when nothing else does, also behind a change of keys', () => {
  const speaking = new Speaking();
  while (speaking.add(0, 1000) > 0);
  while (speaking.add(0, 1) > 0);
  speaking.sender.wantUpdate();
  speaking.sender.updateKeys();
  speaking.sender.alert(20);
  const records = splitRecords(speaking.send());
  const opened = records.slice(0, -1).map((record) => speaking.peer.open(record).type);
  if (opened.at(-1) === HANDSHAKE) speaking.peer.update();
  const alert = speaking.peer.open(records[records.length - 1]);
  expect(alert).toEqual({ type: ALERT, content: Buffer.from(hex`02 14 | fatal, bad_record_mac`) });
});
