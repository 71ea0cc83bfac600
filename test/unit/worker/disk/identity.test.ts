// The samples of a disk, and the first changes that wait for them.

import { describe, expect, test } from 'vitest';
import { NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../../../src/nbd/constants.js';
import { FirstSamples, type SampledDisk } from '../../../../src/worker/disk/first-samples.js';
import { Identity } from '../../../../src/worker/disk/identity.js';
import { CommandTable, type NbdCommand } from '../../../../src/worker/flight/nbd-command.js';
import { BufferPool, HEADROOM } from '../../../../src/worker/memory/buffer-pool.js';

const SIZE = 1024n * 1024n;
const BLOCK = 512;
const KEPT = { isKept: true, canFlush: true };

const commands = new CommandTable();
const buffers = new BufferPool(1 << 20);

/** A WRITE of `length` bytes `letter`. */
function write(offset: number, length: number, letter: string): NbdCommand {
  const command = commands.take();
  command.type = NBD_CMD_WRITE;
  command.setPlace(0, offset, length);
  const buffer = buffers.take(length);
  buffer.bytes.fill(letter.charCodeAt(0), HEADROOM, HEADROOM + length);
  command.setPayload(buffer, HEADROOM);
  return command;
}

function commandOf(type: number, offset: number, length: number): NbdCommand {
  const command = commands.take();
  command.type = type;
  command.setPlace(0, offset, length);
  return command;
}

/** A block: the letters, and dots up to its end. */
const block = (text: string): Buffer => Buffer.from(text.padEnd(BLOCK, '.'));

/** An identity whose one sample is the block of dots at `offset`. */
function identityOf(offset = 0): Identity {
  const identity = new Identity(1, SIZE, KEPT);
  identity.saw({ offsetHi: 0, offsetLo: offset, length: BLOCK }, block(''), 0, false);
  return identity;
}

const matches = ({ samples: [sample] }: Identity, text: string): boolean | undefined =>
  sample?.matches(block(text));

describe('samples', () => {
  test('a byte that was written and not flushed may be the old one or any new one', () => {
    const identity = identityOf();
    identity.changed(write(0, 2, 'A'), 1);
    identity.changed(write(1, 2, 'B'), 2);
    for (const text of ['', 'AA', 'ABB', '.BB', 'A.B']) expect(matches(identity, text), text).toBe(true);
    for (const text of ['B', 'AAA', '...B', 'x']) expect(matches(identity, text), text).toBe(false);
  });

  test('a change that begins before the sample counts from there, and zeros count, too', () => {
    const identity = identityOf(1024);
    identity.changed(write(0, 1025, 'A'), 1);
    identity.changed(commandOf(NBD_CMD_WRITE_ZEROES, 1025, 4096), 2);
    expect(matches(identity, 'A')).toBe(true);
    expect(matches(identity, '.\0\0')).toBe(true);
    expect(matches(identity, '\0')).toBe(false);
    expect(matches(identity, '.A')).toBe(false);
  });

  test('a change beside the sample does not count', () => {
    const identity = identityOf(1024);
    identity.changed(write(0, 1024, 'A'), 1);
    identity.changed(write(1536, 512, 'A'), 2);
    expect(matches(identity, '')).toBe(true);
    expect(matches(identity, 'A')).toBe(false);
  });

  test('a FLUSH that covers all changes leaves the newest bytes', () => {
    const identity = identityOf();
    identity.changed(write(0, 2, 'A'), 1);
    identity.changed(write(1, 2, 'B'), 2);
    const [before] = identity.samples;
    identity.flushed(2);
    expect(identity.samples).not.toContain(before);
    expect(matches(identity, 'ABB')).toBe(true);
    expect(matches(identity, 'AA')).toBe(false);
    expect(matches(identity, '')).toBe(false);
  });

  test.each([1, -1])('a FLUSH that may not cover the last change leaves all, number %i', (number) => {
    const identity = identityOf();
    identity.changed(write(0, 2, 'A'), 1);
    identity.changed(write(1, 2, 'B'), 2);
    identity.flushed(number);
    expect(matches(identity, '')).toBe(true);
    expect(matches(identity, 'ABB')).toBe(true);
  });

  test.each([
    ['a failed change', (identity: Identity) => identity.failed(commandOf(NBD_CMD_WRITE, 100, 1))],
    ['a failed FLUSH', (identity: Identity) => identity.failed(commandOf(NBD_CMD_FLUSH, 0, 0))],
    ['a loss', (identity: Identity) => identity.lost()],
  ])('after %s, a FLUSH leaves all until the block is overwritten', (_, fails) => {
    const identity = identityOf();
    identity.changed(write(0, 2, 'A'), 1);
    fails(identity);
    identity.flushed(1);
    expect(matches(identity, '')).toBe(true);
    identity.changed(write(0, BLOCK, 'B'), 2);
    identity.flushed(2);
    expect(matches(identity, 'B'.repeat(BLOCK))).toBe(true);
    expect(matches(identity, '')).toBe(false);
  });

  test.each([
    [1, SIZE, [0n, 523_776n, 1_048_064n], 512],
    [4096, SIZE, [0n, 520_192n, 1_044_480n], 4096],
    [1, 512n, [0n], 512],
    [1, 1000n, [0n], 512],
    [1, 5n, [0n], 4],
    [1, 0n, [], 1],
    [4096, 512n, [], 4096],
  ])('blocks to read first, of %s bytes at least on a disk of %s bytes', (minimum, size, offsets, unit) => {
    const identity = new Identity(minimum, size, KEPT);
    expect(identity.candidates(size)).toEqual(offsets);
    expect(identity.unit).toBe(unit);
  });

  test('without FLUSH, a change drops the sample', () => {
    const identity = new Identity(1, SIZE, { isKept: true, canFlush: false });
    for (const offsetLo of [0, 1024])
      identity.saw({ offsetHi: 0, offsetLo, length: BLOCK }, block(''), 0, false);
    identity.changed(write(0, 1, 'A'), 1);
    expect(identity.samples.map(({ offsetLo }) => offsetLo)).toEqual([1024]);
    expect(identity.outlivesChanges).toBe(false);
  });

  test('a block that is changed while it is read is no sample', () => {
    const identity = new Identity(1, SIZE, KEPT);
    const [first, second] = [identity.expect(0, 0), identity.expect(0, 1024)];
    identity.changed(write(500, 100, 'A'), 1);
    expect(identity.isAsExpected(first)).toBe(false);
    expect(identity.isAsExpected(second)).toBe(true);
  });
});

describe('first changes', () => {
  class Fixture implements SampledDisk {
    readonly info: { readonly size: bigint };
    readonly identity: Identity;
    readonly read: bigint[] = [];
    readonly sent: NbdCommand[] = [];
    failing = 0;
    readonly first: FirstSamples;

    constructor(size = SIZE) {
      this.info = { size };
      this.identity = new Identity(1, size, KEPT);
      this.first = new FirstSamples(this);
    }

    sampleBlock(offset: bigint): void {
      this.read.push(offset);
    }

    sendParked(parked: readonly NbdCommand[]): void {
      this.sent.push(...parked);
    }

    /** Answers the READ of the next block. @param letter '' for an error */
    answer(letter: string): void {
      const offset = Number(this.read.shift());
      if (letter !== '')
        this.identity.saw(
          { offsetHi: 0, offsetLo: offset, length: BLOCK },
          Buffer.alloc(BLOCK, letter),
          0,
          true,
        );
      this.first.ended();
    }
  }

  test('wait until one block is read that is not zeros', () => {
    const disk = new Fixture();
    const [one, two] = [write(0, 1, 'A'), write(1, 1, 'B')];
    expect(disk.first.parks(one)).toBe(true);
    expect(disk.first.parks(two)).toBe(true);
    expect(disk.read).toHaveLength(3);
    disk.answer('\0');
    expect(disk.sent).toEqual([]);
    disk.answer('x');
    expect(disk.sent).toEqual([one, two]);
    expect(disk.first.isDue).toBe(false);
    disk.answer('x');
    expect(disk.sent).toHaveLength(2);
  });

  test.each([
    ['zeros', '\0', 3],
    ['unreadable', '', 0],
  ])('wait for all blocks if they are %s', (_, letter, samples) => {
    const disk = new Fixture();
    disk.first.parks(write(0, 1, 'A'));
    disk.answer(letter);
    disk.answer(letter);
    expect(disk.sent).toEqual([]);
    disk.answer(letter);
    expect(disk.sent).toHaveLength(1);
    expect(disk.first.isDue).toBe(false);
    expect(disk.identity.samples).toHaveLength(samples);
  });

  test('do not wait if a program has read a block, or the disk has none', () => {
    const known = new Fixture();
    known.identity.saw({ offsetHi: 0, offsetLo: 0, length: BLOCK }, block('x'), 0, false);
    expect(known.first.parks(write(0, 1, 'A'))).toBe(false);
    expect(new Fixture(0n).first.parks(write(0, 1, 'A'))).toBe(false);
  });

  test('wait again after an outage in which they failed', () => {
    const disk = new Fixture();
    const [one, two] = [write(0, 1, 'A'), write(0, 1, 'B')];
    disk.first.parks(one);
    disk.failing = 5;
    expect(disk.first.take()).toEqual([one]);
    for (let i = 0; i < 3; i++) disk.answer('');
    expect(disk.first.isDue).toBe(true);
    disk.failing = 0;
    expect(disk.first.parks(two)).toBe(true);
    disk.answer('x');
    expect(disk.sent).toEqual([two]);
  });
});
