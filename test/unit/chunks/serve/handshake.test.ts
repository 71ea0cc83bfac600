// The server's handshake, byte by byte, and with random bytes.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GREETING, type Offer, ServerHandshake } from '../../../../src/chunks/serve/handshake.js';
import { hex, toHex } from '../../../support/hex.js';
import { PROPERTIES } from '../../../support/memory-disk.js';
import { CLIENT_FLAGS, contextQuery, exportQuery, option } from '../../../support/option-bytes.js';
import { optionReply, u16, u32, u64 } from '../../../support/scripted-wire.js';

const EXPORT_NAME = 1;
const ABORT = 2;
const LIST = 3;
const INFO = 6;
const GO = 7;
const STRUCTURED_REPLY = 8;
const LIST_CONTEXTS = 9;
const SET_CONTEXTS = 10;

const ACK = 1;
const SERVER = 2;
const INFORMATION = 3;
const CONTEXT = 4;
const UNSUPPORTED = 0x80000001;
const INVALID = 0x80000003;
const UNKNOWN = 0x80000006;

/** HAS_FLAGS and all that the properties allow without structured replies. */
const FLAGS = 0b1101_0110_1101;
const DF = 1 << 7;

const EXPORT = Buffer.concat([u16(0), u64(PROPERTIES.size), u16(FLAGS)]);

/** The replies to options after the client's flags, and the handshake after them. */
function answer(options: readonly Uint8Array[], offer: Offer = PROPERTIES) {
  const handshake = new ServerHandshake(offer);
  handshake.receive(CLIENT_FLAGS);
  return { replies: toHex(handshake.receive(Buffer.concat(options))), handshake };
}

const all = (...replies: readonly Uint8Array[]): string => toHex(Buffer.concat(replies));

/** The reply without its text. */
const refusal = (number: number, type: number): string => toHex(optionReply(number, type)).slice(0, 32);

describe('handshake of the server', () => {
  test('greets as a fixed newstyle server', () => {
    expect(toHex(GREETING)).toBe(toHex(hex`"NBDMAGIC" "IHAVEOPT" 0003`));
  });

  test('opens the default export by NBD_OPT_GO', () => {
    const { replies, handshake } = answer([option(GO, exportQuery(''))]);
    expect(replies).toBe(all(optionReply(GO, INFORMATION, EXPORT), optionReply(GO, ACK)));
    expect(handshake.phase).toBe('transmission');
    expect(handshake.terms).toEqual({ structured: false, allocation: undefined });
  });

  test.each([
    ['NBD_OPT_GO', GO, exportQuery('/path of/image.xz')],
    ['NBD_OPT_EXPORT_NAME', EXPORT_NAME, Buffer.from('/path of/image.xz')],
  ])('opens its only disk by %s with any name', (_, number, data) => {
    const { replies, handshake } = answer([option(number, data)]);
    expect(replies).toBe(answer([option(number, number === GO ? exportQuery('') : Buffer.alloc(0))]).replies);
    expect(handshake.phase).toBe('transmission');
  });

  test('selects contexts for any name', () => {
    const select = option(SET_CONTEXTS, contextQuery('', 'base:allocation'));
    const named = option(SET_CONTEXTS, contextQuery('other', 'base:allocation'));
    const replies = answer([option(STRUCTURED_REPLY), named]).replies;
    expect(replies).toBe(answer([option(STRUCTURED_REPLY), select]).replies);
  });

  test('gives block sizes, name and description on request', () => {
    const { replies, handshake } = answer([option(INFO, exportQuery('', [1, 2, 3, 77]))], {
      ...PROPERTIES,
      description: 'a disk',
    });
    const sizes = Buffer.concat([u16(3), u32(1), u32(4096), u32(32 * 1024 * 1024)]);
    expect(replies).toBe(
      all(
        optionReply(INFO, INFORMATION, EXPORT),
        optionReply(INFO, INFORMATION, u16(1)),
        optionReply(INFO, INFORMATION, Buffer.concat([u16(2), Buffer.from('a disk')])),
        optionReply(INFO, INFORMATION, sizes),
        optionReply(INFO, ACK),
      ),
    );
    expect(handshake.phase).toBe('handshake');
  });

  test('announces a minimum block size unasked', () => {
    const blockSizes = { minimum: 512, preferred: 4096, maximum: 65_536 };
    const { replies } = answer([option(GO, exportQuery(''))], { ...PROPERTIES, blockSizes });
    const sizes = Buffer.concat([u16(3), u32(512), u32(4096), u32(65_536)]);
    expect(replies).toContain(toHex(optionReply(GO, INFORMATION, sizes)));
  });

  test('agrees on structured replies and base:allocation', () => {
    const { replies, handshake } = answer([
      option(STRUCTURED_REPLY),
      option(LIST_CONTEXTS, contextQuery('')),
      option(SET_CONTEXTS, contextQuery('', 'qemu:dirty-bitmap:x', 'base:allocation')),
      option(GO, exportQuery('')),
    ]);
    const withDf = Buffer.concat([u16(0), u64(PROPERTIES.size), u16(FLAGS | DF)]);
    expect(replies).toBe(
      all(
        optionReply(STRUCTURED_REPLY, ACK),
        optionReply(LIST_CONTEXTS, CONTEXT, Buffer.concat([u32(0), Buffer.from('base:allocation')])),
        optionReply(LIST_CONTEXTS, ACK),
        optionReply(SET_CONTEXTS, CONTEXT, Buffer.concat([u32(1), Buffer.from('base:allocation')])),
        optionReply(SET_CONTEXTS, ACK),
        optionReply(GO, INFORMATION, withDf),
        optionReply(GO, ACK),
      ),
    );
    expect(handshake.terms).toEqual({ structured: true, allocation: 1 });
  });

  test('a later selection of contexts replaces the earlier one', () => {
    const select = (...queries: string[]) => option(SET_CONTEXTS, contextQuery('', ...queries));
    const { handshake } = answer([option(STRUCTURED_REPLY), select('base:allocation'), select('base:')]);
    expect(handshake.terms.allocation).toBeUndefined();
  });

  test('opens by NBD_OPT_EXPORT_NAME, with zeroes unless the client wants none', () => {
    const fields = [u64(PROPERTIES.size), u16(FLAGS)];
    expect(answer([option(EXPORT_NAME)]).replies).toBe(all(...fields));
    const handshake = new ServerHandshake(PROPERTIES);
    handshake.receive(u32(0));
    expect(toHex(handshake.receive(option(EXPORT_NAME)))).toBe(all(...fields, Buffer.alloc(124)));
    expect(handshake.phase).toBe('transmission');
  });

  test('lists the default export', () => {
    const { replies } = answer([option(LIST)]);
    expect(replies).toBe(all(optionReply(LIST, SERVER, u32(0)), optionReply(LIST, ACK)));
  });

  test('acknowledges NBD_OPT_ABORT and ends', () => {
    const { replies, handshake } = answer([option(ABORT), option(LIST)]);
    expect(replies).toBe(all(optionReply(ABORT, ACK)));
    expect(handshake.phase).toBe('end');
  });

  test.each([
    ['STARTTLS', 5, [], UNSUPPORTED],
    ['extended headers', 11, [], UNSUPPORTED],
    ['an unknown option', 12_345, [Buffer.alloc(9)], UNSUPPORTED],
    ['contexts without structured replies', SET_CONTEXTS, [contextQuery('', 'base:allocation')], INVALID],
    ['LIST with data', LIST, [Buffer.alloc(1)], INVALID],
    ['structured replies with data', STRUCTURED_REPLY, [Buffer.alloc(1)], INVALID],
    ['an option that is too short', GO, [u32(7)], INVALID],
    ['an option that is too long', INFO, [exportQuery(''), Buffer.alloc(1)], INVALID],
    ['a name that is too long', INFO, [exportQuery('n'.repeat(4097))], INVALID],
  ])('refuses %s and goes on', (_, number, data, type) => {
    const { replies, handshake } = answer([option(number, ...data)]);
    expect(replies.startsWith(refusal(number, type))).toBe(true);
    expect(handshake.phase).toBe('handshake');
    expect(toHex(handshake.receive(option(LIST)))).toContain(toHex(optionReply(LIST, ACK)));
  });

  test('a refused option has the reason of the disk', () => {
    const { replies, handshake } = answer([option(GO, exportQuery(''))], { refusal: 'no such file' });
    expect(replies).toBe(all(optionReply(GO, UNKNOWN, Buffer.from('no such file'))));
    expect(handshake.phase).toBe('handshake');
  });

  test.each([
    ['unknown client flags', [u32(4)]],
    ['a wrong magic', [CLIENT_FLAGS, Buffer.alloc(16)]],
    ['an option of more than 64 KiB', [CLIENT_FLAGS, option(GO, Buffer.alloc(65_537)).subarray(0, 16)]],
    ['an option before the fixed handshake', [u32(2), option(LIST)]],
  ])('ends the connection after %s', (_, messages) => {
    const handshake = new ServerHandshake(PROPERTIES);
    expect(handshake.receive(Buffer.concat(messages))).toHaveLength(0);
    expect(handshake.phase).toBe('end');
  });

  test('hands over the bytes that follow the handshake', () => {
    const { handshake } = answer([option(GO, exportQuery('')), Buffer.from('rest')]);
    expect(Buffer.from(handshake.takeRest()).toString()).toBe('rest');
  });

  test('is the same for bytes that come one by one', () => {
    const options = [option(STRUCTURED_REPLY), option(LIST), option(12), option(GO, exportQuery('', [3]))];
    const handshake = new ServerHandshake(PROPERTIES);
    const bytes = Buffer.concat([CLIENT_FLAGS, ...options]);
    const replies = [...bytes].map((byte) => handshake.receive(Uint8Array.of(byte)));
    expect(all(...replies)).toBe(answer(options).replies);
  });
});

/** Bytes that look like options, and bytes that do not. */
const message = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc
    .tuple(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 40 }))
    .map(([number, data]) => option(number, data)),
  fc
    .tuple(fc.constantFrom(INFO, GO), fc.constantFrom('', 'x'), fc.array(fc.integer({ min: 0, max: 5 })))
    .map(([number, name, wanted]) => option(number, exportQuery(name, wanted))),
  fc
    .tuple(
      fc.constantFrom(LIST_CONTEXTS, SET_CONTEXTS),
      fc.array(fc.constantFrom('base:', 'base:allocation')),
    )
    .map(([number, queries]) => option(number, contextQuery('', ...queries))),
);

test('handshake of the server: random bytes never throw, and replies stay small', () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 1, 2, 3, 7), fc.array(message, { maxLength: 20 }), (flags, messages) => {
      const handshake = new ServerHandshake(PROPERTIES);
      handshake.receive(u32(flags));
      for (const bytes of messages) {
        const replies = handshake.receive(bytes);
        expect(replies.length).toBeLessThan(16 * 1024);
        if (handshake.phase !== 'handshake') return;
      }
    }),
    { numRuns: 2000 },
  );
});
