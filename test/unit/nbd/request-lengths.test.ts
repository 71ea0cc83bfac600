import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_EOVERFLOW } from '../../../src/nbd/constants.js';
import { payloadLimit } from '../../../src/nbd/export-info.js';
import {
  ChangeLength,
  lengthAfterRefusal,
  longestChange,
  longestStatus,
  PayloadLimits,
  payloadAfterRefusal,
} from '../../../src/nbd/request-lengths.js';

const minimum = fc.integer({ min: 0, max: 16 }).map((power) => 2 ** power);

describe('request lengths', () => {
  it('are multiples of every minimum block size', () => {
    const sizes = { minimum: 65_536, preferred: 65_536, maximum: 0xffff_ffff };
    expect(payloadLimit(sizes)).toBe(33_554_432);
    expect(payloadLimit({ ...sizes, maximum: 100_000 })).toBe(65_536);
    expect([longestStatus(false), longestStatus(true)]).toEqual([0xffff_0000, 2 ** 50]);
    expect([longestChange(false), longestChange(true)]).toEqual([2 ** 30, 2 ** 50]);
    for (const extended of [false, true]) {
      expect(longestStatus(extended) % 65_536).toBe(0);
      expect(longestChange(extended) % 65_536).toBe(0);
    }
  });

  it.each([
    ['NBD_EINVAL', NBD_EINVAL],
    ['NBD_EOVERFLOW', NBD_EOVERFLOW],
  ])('without payload: after %s the largest payload is tried, once', (_, error) => {
    expect(lengthAfterRefusal(2 ** 30, error, 65_536)).toBe(65_536);
    expect(lengthAfterRefusal(65_537, error, 65_536)).toBe(65_536);
    expect(lengthAfterRefusal(65_536, error, 65_536)).toBe(0);
    expect(lengthAfterRefusal(100, error, 65_536)).toBe(0);
  });

  it('without payload: another error says nothing about the length', () => {
    for (const error of [0, NBD_EIO, NBD_ENOSPC]) expect(lengthAfterRefusal(2 ** 30, error, 65_536)).toBe(0);
  });

  it('with payload: NBD_EOVERFLOW halves it, in whole blocks, down to a single one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 25 }), minimum, (length, block) => {
        const smaller = payloadAfterRefusal(length, NBD_EOVERFLOW, block);
        expect(smaller % block).toBe(0);
        expect(smaller * 2).toBeLessThanOrEqual(length);
        expect(smaller + block).toBeGreaterThan(length / 2);
        expect(smaller === 0).toBe(length < 2 * block);
      }),
    );
  });

  it('with payload: no error but NBD_EOVERFLOW is about its size', () => {
    for (const error of [0, NBD_EINVAL, NBD_EIO]) expect(payloadAfterRefusal(2 ** 20, error, 1)).toBe(0);
  });
});

describe('largest payload', () => {
  it('a whole READ that is refused above 64 KiB limits whole READs only', () => {
    const limits = new PayloadLimits(2 ** 20, 512);
    expect(limits.lower(2 ** 20, NBD_EOVERFLOW, true)).toBe(true);
    expect([limits.of(true), limits.of(false)]).toEqual([2 ** 19, 2 ** 20]);
  });

  it('a whole READ that is refused up to 64 KiB limits every payload: the server has another reason', () => {
    const limits = new PayloadLimits(2 ** 20, 512);
    expect(limits.lower(65_536, NBD_EOVERFLOW, true)).toBe(true);
    expect([limits.of(true), limits.of(false)]).toEqual([32_768, 32_768]);
  });

  it('a refused READ or WRITE limits every payload', () => {
    const limits = new PayloadLimits(2 ** 20, 512);
    expect(limits.lower(2 ** 20, NBD_EOVERFLOW, false)).toBe(true);
    expect([limits.of(true), limits.of(false)]).toEqual([2 ** 19, 2 ** 19]);
    expect(limits.lower(2 ** 19, NBD_EIO, false)).toBe(false);
    expect(limits.lower(512, NBD_EOVERFLOW, false)).toBe(false);
    expect(limits.of(false)).toBe(2 ** 19);
  });
});

describe('requests of a long change', () => {
  const MIB = 2 ** 20;
  const blocks = { size: 10n * 2n ** 30n, minimum: 4096, tail: 0 };
  const whole = { start: 0n, end: blocks.size };

  /** Plays a change on a server that answers by `errnoOf`. Returns the lengths of the requests, and the errno. */
  function play(
    length: ChangeLength,
    range: { start: bigint; end: bigint },
    errnoOf: (length: number) => number,
    of = blocks,
  ) {
    const rounds = length.rounds(range, of, 32 * MIB, 4);
    const sent: number[][] = [];
    let at = range.start;
    let round = rounds.next();
    while (round.done !== true) {
      sent.push(round.value.map((request) => request.length));
      const errno = round.value.map((request) => errnoOf(request.length)).find((one) => one !== 0) ?? 0;
      for (const request of errno === 0 ? round.value : []) {
        expect(request.offset).toBe(at);
        at += BigInt(request.length);
      }
      round = rounds.next(errno);
    }
    if (round.value === 0) expect(at).toBe(range.end);
    return { sent, errno: round.value };
  }

  it('are few, and at most four go out together', () => {
    const { sent } = play(new ChangeLength(false), whole, () => 0);
    expect(sent.map((round) => round.length)).toEqual([4, 4, 2]);
    expect(play(new ChangeLength(true), whole, () => 0).sent).toEqual([[10 * 2 ** 30]]);
  });

  it.each([NBD_EINVAL, NBD_EOVERFLOW])(
    'after a refusal with %i are as long as a payload from then on',
    (errno) => {
      const length = new ChangeLength(true);
      const refuse = (bytes: number) => (bytes > 32 * MIB ? errno : 0);
      const { sent } = play(length, whole, refuse);
      expect(sent[0]).toEqual([10 * 2 ** 30]);
      expect(sent.slice(1).flat()).toEqual(Array.from({ length: 320 }, () => 32 * MIB));
      expect(play(length, { start: 0n, end: BigInt(64 * MIB) }, refuse).sent).toEqual([[32 * MIB, 32 * MIB]]);
    },
  );

  it('end with the error if it is not about their length, and the longer one stays', () => {
    const length = new ChangeLength(true);
    expect(play(length, whole, () => NBD_EIO)).toEqual({ sent: [[10 * 2 ** 30]], errno: NBD_EIO });
    expect(play(length, whole, () => NBD_EINVAL).errno).toBe(NBD_EINVAL);
    expect(play(length, whole, () => 0).sent).toEqual([[10 * 2 ** 30]]);
  });

  it('do not blame their length for the refusal of a last block that is too short', () => {
    const odd = { size: BigInt(64 * MIB + 100), minimum: 4096, tail: 100 };
    const length = new ChangeLength(true);
    const refuse = (bytes: number) => (bytes === 100 ? NBD_EINVAL : 0);
    const { sent, errno } = play(length, { start: 0n, end: odd.size }, refuse, odd);
    expect(sent).toEqual([[64 * MIB], [100]]);
    expect(errno).toBe(NBD_EINVAL);
  });
});
