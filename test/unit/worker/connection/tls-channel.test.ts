// The TLS channel over a socketpair, whose other end is a peer made of node:crypto.

import { describe, expect, onTestFinished, test } from 'vitest';
import { EAGAIN } from '../../../../src/constants/errno.js';
import { addressOf, errno, libc } from '../../../../src/linux/libc.js';
import { closeDescriptor, setNonBlocking, socketpair } from '../../../../src/linux/socket.js';
import { TlsError } from '../../../../src/tls/errors.js';
import { TlsChannel } from '../../../../src/worker/connection/tls-channel.js';
import { hex } from '../../../support/hex.js';
import { PeerDirection, someSecret, splitRecords } from '../../../support/tls-peer.js';

const SUITE = 'TLS_AES_128_GCM_SHA256';
const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];
const SIZE = 1024 * 1024;

/** A channel, memory to send from and to receive in, and its peer with both directions. */
class Pair {
  readonly channel: TlsChannel;
  readonly memory = new Uint8Array(new ArrayBuffer(2 * SIZE));
  readonly address = addressOf(this.memory);
  readonly toUs = new PeerDirection(SUITE, someSecret(SUITE, 1), 3);
  readonly fromUs = new PeerDirection(SUITE, someSecret(SUITE, 2), 5);
  readonly #far: number;

  constructor() {
    const [near, far] = socketpair();
    this.#far = far;
    setNonBlocking(near);
    setNonBlocking(far);
    this.channel = new TlsChannel(near, {
      suite: SUITE,
      receiving: { secret: someSecret(SUITE, 1), sequence: 3 },
      sending: { secret: someSecret(SUITE, 2), sequence: 5 },
      begun: new Uint8Array(0),
    });
    onTestFinished(() => {
      this.channel.close();
      this.hangUp();
    });
  }

  hangUp(): void {
    closeDescriptor(this.#far);
  }

  /** The peer sends raw bytes. */
  say(...records: readonly Uint8Array[]): void {
    const all = new Uint8Array(new ArrayBuffer(SIZE)).subarray(0, Buffer.concat(records).length);
    all.set(Buffer.concat(records));
    expect(libc.write(this.#far, addressOf(all), all.length)).toBe(all.length);
  }

  /** The next bytes of the channel, as text. */
  receive(length = SIZE): string {
    const count = this.channel.receive(this.address + SIZE, length);
    return count < 0 ? `errno ${errno()}` : Buffer.from(this.memory.subarray(SIZE, SIZE + count)).toString();
  }

  /** The bytes that have reached the peer. */
  arrived(): Buffer {
    const chunks: Buffer[] = [];
    const chunk = new Uint8Array(new ArrayBuffer(SIZE));
    for (;;) {
      const count = libc.read(this.#far, addressOf(chunk), chunk.length);
      if (count <= 0) return Buffer.concat(chunks);
      chunks.push(Buffer.from(chunk.subarray(0, count)));
    }
  }

  /** The records that have reached the peer, opened. */
  heard(): { type: number; content: Buffer }[] {
    return splitRecords(this.arrived()).map((record) => this.fromUs.open(record));
  }
}

const text = (words: string): Uint8Array => Buffer.from(words);

describe('TLS channel: receive', () => {
  test('returns whole records, and EAGAIN when there is none', () => {
    const pair = new Pair();
    const second = pair.toUs;
    pair.say(second.seal(DATA, text('one ')), second.seal(DATA, text('two')).subarray(0, 10));
    expect(pair.receive()).toBe('one ');
    expect(pair.channel.buffered).toBe(false);
    expect(pair.receive()).toBe(`errno ${EAGAIN}`);
  });

  test('reports bytes that it keeps because the caller had no room', () => {
    const pair = new Pair();
    pair.say(pair.toUs.seal(DATA, text('one ')), pair.toUs.seal(DATA, text('two')));
    expect(pair.receive(2)).toBe('on');
    expect(pair.channel.buffered).toBe(true);
    expect(pair.receive(2)).toBe('e ');
    expect(pair.channel.buffered).toBe(true);
    expect(pair.receive()).toBe('two');
    expect(pair.channel.buffered).toBe(false);
  });

  test('ends after close_notify, and when the peer just closes', () => {
    const closed = new Pair();
    closed.say(closed.toUs.seal(DATA, text('last')), closed.toUs.seal(ALERT, hex`01 00 | close_notify`));
    expect([closed.receive(), closed.receive(), closed.receive()]).toEqual(['last', '', '']);
    const torn = new Pair();
    torn.hangUp();
    expect(torn.receive()).toBe('');
  });

  test('answers a breach with its alert', () => {
    const pair = new Pair();
    const record = pair.toUs.seal(DATA, text('changed on the way'));
    record[7] ^= 1;
    pair.say(record);
    expect(() => pair.receive()).toThrow(TlsError);
    expect(pair.heard()).toEqual([{ type: ALERT, content: Buffer.from(hex`02 14 | fatal, bad_record_mac`) }]);
  });
});

describe('TLS channel: send', () => {
  test('gathers until nothing more is to follow', () => {
    const pair = new Pair();
    pair.memory.set(text('header payload'));
    expect(pair.channel.send(pair.address, 7, pair.address + 7, 7, true)).toBe(14);
    expect(pair.channel.unsent).toBe(true);
    expect(pair.arrived().length).toBe(0);
    expect(pair.channel.send(pair.address, 6, 0, 0, false)).toBe(6);
    expect(pair.channel.unsent).toBe(false);
    expect(pair.heard().map(({ content }) => content.toString())).toEqual(['header payload', 'header']);
  });

  test('takes as much as fits, and continues there when the socket takes more', () => {
    const pair = new Pair();
    for (let i = 0; i < SIZE; i++) pair.memory[i] = (i * 31) % 257;
    const chunks: Buffer[] = [];
    let [sent, refusals] = [0, 0];
    while (sent < SIZE || pair.channel.unsent) {
      const first = Math.min(28, SIZE - sent);
      const at = pair.address + sent;
      const count =
        sent < SIZE
          ? pair.channel.send(at, first, at + first, SIZE - sent - first, false)
          : pair.channel.flush();
      if (count < 0) {
        expect(errno()).toBe(EAGAIN);
        refusals++;
        chunks.push(pair.arrived());
      } else sent += count;
    }
    chunks.push(pair.arrived());
    const contents = splitRecords(Buffer.concat(chunks)).map((record) => pair.fromUs.open(record).content);
    expect(Buffer.concat(contents).equals(Buffer.from(pair.memory.subarray(0, SIZE)))).toBe(true);
    expect(refusals).toBeGreaterThan(0);
  });

  test('ends with a last message and close_notify', () => {
    const pair = new Pair();
    pair.memory.set(text('bye'));
    pair.channel.sendLast(pair.address, 3);
    expect(pair.heard()).toEqual([
      { type: DATA, content: Buffer.from('bye') },
      { type: ALERT, content: Buffer.from(hex`01 00 | warning, close_notify`) },
    ]);
  });
});

test('TLS channel: answers a key update that requests ours, and both directions continue under new keys', () => {
  const pair = new Pair();
  pair.say(pair.toUs.seal(HANDSHAKE, hex`18 000001 01 | KeyUpdate, update_requested`));
  pair.toUs.update();
  expect(pair.receive()).toBe(`errno ${EAGAIN}`);
  expect(pair.channel.unsent).toBe(true);
  expect(pair.channel.flush()).toBe(0);
  expect(pair.heard()).toEqual([
    { type: HANDSHAKE, content: Buffer.from(hex`18 000001 00 | KeyUpdate, update_not_requested`) },
  ]);
  pair.fromUs.update();
  pair.say(pair.toUs.seal(DATA, text('new keys')));
  expect(pair.receive()).toBe('new keys');
  pair.memory.set(text('here too'));
  pair.channel.send(pair.address, 8, 0, 0, false);
  expect(pair.heard()[0].content.toString()).toBe('here too');
});
