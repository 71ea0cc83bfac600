import { describe, expect, test } from 'vitest';
import { SequentialStreams } from '../../../../src/worker/request/sequential.js';
import { Latency } from '../../../../src/worker/stats/latency.js';

const KIB = 1024;

describe('sequential streams', () => {
  test('READs that follow one another are one stream, whatever their lengths', () => {
    const streams = new SequentialStreams<string>();
    const first = streams.follow('disk', 0, 16 * KIB, 1);
    expect(streams.follow('disk', 16 * KIB, 128 * KIB, 2)).toBe(first);
    expect(streams.follow('disk', 144 * KIB, 4 * KIB, 3)).toBe(first);
    expect(first).toMatchObject({ run: 3, next: 148 * KIB, usedAt: 3 });
  });

  test('READs that overtake one another stay in their stream', () => {
    const streams = new SequentialStreams<string>();
    const stream = streams.follow('disk', 0, 128 * KIB, 1);
    expect(streams.follow('disk', 256 * KIB, 128 * KIB, 2)).toBe(stream);
    expect(streams.follow('disk', 128 * KIB, 128 * KIB, 3)).not.toBe(undefined);
    expect(stream.next).toBe(384 * KIB);
  });

  test('READs near one another make no run', () => {
    const streams = new SequentialStreams<string>();
    const stream = streams.follow('disk', 0, 4 * KIB, 1);
    expect(streams.follow('disk', 40 * KIB, 4 * KIB, 2)).toBe(stream);
    expect(stream.run).toBe(1);
  });

  test('another place or another disk is another stream', () => {
    const streams = new SequentialStreams<string>();
    const stream = streams.follow('disk', 0, 4 * KIB, 1);
    expect(streams.follow('disk', 1024 * KIB, 4 * KIB, 2)).not.toBe(stream);
    expect(streams.follow('other', 4 * KIB, 4 * KIB, 3)).not.toBe(stream);
    expect(streams.follow('disk', 4 * KIB, 4 * KIB, 4)).toBe(stream);
  });

  test('the stream that was idle longest makes room', () => {
    const streams = new SequentialStreams<string>();
    const far = (i: number): number => i * 1024 * KIB;
    const all = Array.from({ length: 32 }, (_, i) => streams.follow('disk', far(i), 4 * KIB, i));
    expect(streams.follow('disk', far(0) + 4 * KIB, 4 * KIB, 100)).toBe(all[0]);
    streams.follow('disk', far(40), 4 * KIB, 101);
    expect(streams.follow('disk', far(0) + 8 * KIB, 4 * KIB, 102)).toBe(all[0]);
    expect(streams.follow('disk', far(1) + 4 * KIB, 4 * KIB, 103)).not.toBe(all[1]);
  });

  test('the window doubles to 16 segments and halves to one', () => {
    const stream = new SequentialStreams<string>().follow('disk', 0, 1, 0);
    const windows = [stream.window];
    for (let i = 0; i < 4; i++) {
      stream.widen();
      windows.push(stream.window);
    }
    for (let i = 0; i < 5; i++) stream.narrow();
    expect([...windows, stream.window]).toEqual([2, 4, 8, 16, 16, 1]);
  });
});

describe('remote server detection', () => {
  const MIB = 1024 * KIB;

  /** READs of a server, each submitted now, or with others before the last one was answered. */
  class Reads {
    readonly latency = new Latency();
    #now = 70;
    #moved = 5 * MIB;

    get remote(): boolean {
      return this.latency.remote;
    }

    /** `count` of `length` bytes one after another, each with `moved` bytes meanwhile. */
    inTurn(count: number, milliseconds: number, length: number, moved = length): this {
      for (let i = 0; i < count; i++) this.together(1, milliseconds, length, moved);
      return this;
    }

    /** `count` submitted at once, the last one answered after `milliseconds`, the others just before. */
    together(count: number, milliseconds: number, length: number, moved = count * length): this {
      const submitted = { submittedAt: this.#now, movedBefore: this.#moved, length };
      this.#now += milliseconds;
      this.#moved += moved;
      for (let i = 0; i < count; i++) this.latency.answered(submitted, this.#now, this.#moved);
      return this;
    }
  }

  test.each([
    [1, 8],
    [2, 4],
    [4, 2],
    [1000, 2],
  ])('at %d ms needs %d READs in a row', (milliseconds, count) => {
    const reads = new Reads().inTurn(count - 1, milliseconds + 0.01, 4 * KIB);
    expect(reads.remote).toBe(false);
    expect(reads.inTurn(1, milliseconds + 0.01, 4 * KIB).remote).toBe(true);
  });

  test('ignores transfer time, in both directions', () => {
    expect(new Reads().inTurn(1000, 1, MIB, 2 * MIB).remote).toBe(false);
    expect(new Reads().inTurn(1000, 3.5, 4 * KIB, 8 * MIB).remote).toBe(false);
    expect(new Reads().inTurn(10, 11, MIB, 2 * MIB).remote).toBe(true);
  });

  test('at 1, 10 or 50 ms works with pairs of READs, too', () => {
    for (const milliseconds of [1, 10, 50]) {
      const reads = new Reads();
      for (let i = 0; i < 32 && !reads.remote; i++) reads.together(2, milliseconds + 0.5, 512 * KIB);
      expect(reads.remote).toBe(true);
    }
  });

  test.each([
    [32, 4 * KIB],
    [8, 128 * KIB],
    [8, MIB],
  ])('ignores a moment in which %d READs of %d bytes had to wait', (count, length) => {
    const reads = new Reads().together(count, 2000, length);
    expect(reads.remote).toBe(false);
    for (let i = 0; i < 100; i++)
      reads.together(count, 0.1 + (count * length) / ((2 * 1024 * MIB) / 1000), length);
    expect(reads.together(count, 5, length).remote).toBe(false);
  });

  test('ends with one quick READ among late ones', () => {
    const reads = new Reads();
    for (let i = 0; i < 100; i++) reads.inTurn(1, i % 2 === 0 ? 50 : 0.1, 4 * KIB);
    expect(reads.remote).toBe(false);
  });

  test('lasts while many bytes are in flight, except after a READ that was alone', () => {
    const far = (): Reads => new Reads().inTurn(10, 10, 4 * KIB);
    expect(
      far()
        .inTurn(1000, 4, MIB, 16 * MIB)
        .inTurn(1, 10.5, MIB).remote,
    ).toBe(true);
    expect(far().inTurn(1, 0.9, MIB).remote).toBe(false);
    expect(far().inTurn(1, 0.5, 4 * KIB, 2 * MIB).remote).toBe(false);
  });
});
