// Random servers: with any bytes the handshake continues, ends, or fails with an NbdError.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NbdError } from '../../../src/nbd/errors.js';
import {
  Handshake,
  type HandshakeGoal,
  type HandshakeOptions,
} from '../../../src/nbd/handshake/handshake.js';
import { FIXED_NEWSTYLE, INFO_EXPORT, OPT, optionReply, REP } from '../../support/handshake-pair.js';
import { hex } from '../../support/hex.js';

const goals = fc.constantFrom<HandshakeGoal>(
  { kind: 'go', exportName: 'disk' },
  { kind: 'info', exportName: '' },
  { kind: 'list' },
);
const options: fc.Arbitrary<HandshakeOptions> = fc.record({
  goal: goals,
  tls: fc.constantFrom('disable', 'require'),
  structuredReplies: fc.boolean(),
  extendedHeaders: fc.boolean(),
});

const bytes = fc.uint8Array({ maxLength: 200 });
const data = fc.oneof(
  bytes,
  fc.constantFrom(
    INFO_EXPORT,
    hex`00000001 "x"`,
    hex`00000001 "base:allocation"`,
    hex`0003 00000001 00001000 ffffffff`,
  ),
  fc.constant(new Uint8Array(0)),
);
const reply = fc
  .record({
    option: fc.constantFrom(...Object.values(OPT)),
    type: fc.constantFrom(...Object.values(REP), REP.ACK, REP.ACK, REP.INFO, REP.ERR_UNSUP),
    data,
  })
  .map(({ option, type, data }) => optionReply(option, type, type === REP.ACK ? new Uint8Array(0) : data));
const greeting = fc.constantFrom(
  FIXED_NEWSTYLE,
  hex`"NBDMAGIC" "IHAVEOPT" 0000`,
  hex`"NBDMAGIC" 0000420281861253 0000000000100000 00000001 00*124`,
);
const conversation = fc
  .tuple(
    fc.oneof({ weight: 9, arbitrary: greeting }, bytes),
    fc.array(fc.oneof({ weight: 9, arbitrary: reply }, bytes)),
  )
  .map(([first, rest]) => [first, ...rest]);

/** Feeds the parts of a server's bytes; returns the result. Any error but an NbdError fails the test. */
function feed(settings: HandshakeOptions, pieces: readonly Uint8Array[]): string {
  const handshake = new Handshake(settings);
  const seen: string[] = [];
  try {
    for (const piece of pieces) {
      const events = handshake.receive(piece);
      seen.push(...events.map(({ type }) => type));
      if (events.some(({ type }) => type === 'starttls'))
        seen.push(...handshake.tlsStarted().map(({ type }) => type));
    }
  } catch (error) {
    expect(error).toBeInstanceOf(NbdError);
    expect(handshake.receive(hex`00`)).toEqual([]);
    return 'error';
  }
  handshake.abort();
  return seen.filter((type) => type !== 'send').join();
}

describe('handshake with a server that sends random bytes', () => {
  it('ends at the first breach, and never crashes the client', () => {
    fc.assert(
      fc.property(options, fc.array(bytes), (settings, pieces) => {
        feed(settings, pieces);
      }),
    );
  });

  it('in well-formed replies out of place does not crash the client either', () => {
    fc.assert(
      fc.property(options, conversation, (settings, pieces) => {
        feed(settings, pieces);
      }),
      { numRuns: 2000 },
    );
  });

  it('has the same result for any cut of the bytes', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(goals, conversation, cuts, (goal, pieces, sizes) => {
        const settings = { goal, tls: 'disable' } as const;
        const all = Buffer.concat(pieces);
        const cut: Uint8Array[] = [];
        for (let at = 0, i = 0; at < all.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          cut.push(all.subarray(at, at + size));
          at += size;
        }
        const whole = feed(settings, [all]);
        const pieced = feed(settings, cut);
        expect(pieced).toBe(whole);
      }),
      { numRuns: 500 },
    );
  });

  it('that announces long replies and sends little causes no allocation', () => {
    const before = process.memoryUsage().arrayBuffers;
    const waiting = Array.from({ length: 1000 }, () => {
      const handshake = new Handshake({
        goal: { kind: 'list' },
        tls: 'disable',
        extendedHeaders: false,
        structuredReplies: false,
      });
      handshake.receive(FIXED_NEWSTYLE);
      handshake.receive(hex`0003e889045565a9 00000003 00000002 00010000`);
      return handshake;
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(waiting.length * 4096);
  });
});
