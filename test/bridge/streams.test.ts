import { describe, expect, test } from 'vitest';
import { Latency } from '../../src/bridge/latency.js';
import { Streams } from '../../src/bridge/streams.js';

const KIB = 1024;

describe('streams', () => {
  test('READs that follow one another are one stream, whatever their lengths', () => {
    const streams = new Streams<string>();
    const first = streams.follow('disk', 0, 16 * KIB, 1);
    expect(streams.follow('disk', 16 * KIB, 128 * KIB, 2)).toBe(first);
    expect(streams.follow('disk', 144 * KIB, 4 * KIB, 3)).toBe(first);
    expect(first).toMatchObject({ run: 3, next: 148 * KIB, usedAt: 3 });
  });

  test('READs that overtake one another stay in their stream', () => {
    const streams = new Streams<string>();
    const stream = streams.follow('disk', 0, 128 * KIB, 1);
    expect(streams.follow('disk', 256 * KIB, 128 * KIB, 2)).toBe(stream);
    expect(streams.follow('disk', 128 * KIB, 128 * KIB, 3)).not.toBe(undefined);
    expect(stream.next).toBe(384 * KIB);
  });

  test('READs that come near one another do not make a run', () => {
    const streams = new Streams<string>();
    const stream = streams.follow('disk', 0, 4 * KIB, 1);
    expect(streams.follow('disk', 40 * KIB, 4 * KIB, 2)).toBe(stream);
    expect(stream.run).toBe(1);
  });

  test('another place or another disk is another stream', () => {
    const streams = new Streams<string>();
    const stream = streams.follow('disk', 0, 4 * KIB, 1);
    expect(streams.follow('disk', 1024 * KIB, 4 * KIB, 2)).not.toBe(stream);
    expect(streams.follow('other', 4 * KIB, 4 * KIB, 3)).not.toBe(stream);
    expect(streams.follow('disk', 4 * KIB, 4 * KIB, 4)).toBe(stream);
  });

  test('the stream that was idle longest makes room', () => {
    const streams = new Streams<string>();
    const far = (i: number): number => i * 1024 * KIB;
    const all = Array.from({ length: 32 }, (_, i) => streams.follow('disk', far(i), 4 * KIB, i));
    expect(streams.follow('disk', far(0) + 4 * KIB, 4 * KIB, 100)).toBe(all[0]);
    streams.follow('disk', far(40), 4 * KIB, 101);
    expect(streams.follow('disk', far(0) + 8 * KIB, 4 * KIB, 102)).toBe(all[0]);
    expect(streams.follow('disk', far(1) + 4 * KIB, 4 * KIB, 103)).not.toBe(all[1]);
  });

  test('the window doubles to 16 segments and halves to one', () => {
    const stream = new Streams<string>().follow('disk', 0, 1, 0);
    const windows = [stream.window];
    for (let i = 0; i < 4; i++) {
      stream.widen();
      windows.push(stream.window);
    }
    for (let i = 0; i < 5; i++) stream.narrow();
    expect([...windows, stream.window]).toEqual([2, 4, 8, 16, 16, 1]);
  });
});

describe('latency', () => {
  const MIB = 1024 * KIB;
  const sample = (latency: Latency, milliseconds: number, received: number, length: number): void =>
    latency.answered(
      { submittedAt: 70, receivedBefore: 5 * MIB, length },
      70 + milliseconds,
      5 * MIB + received,
    );
  const far = (): Latency => {
    const latency = new Latency();
    for (let i = 0; i < 10; i++) sample(latency, 10, 4 * KIB, 4 * KIB);
    return latency;
  };

  test.each([
    [1, 8],
    [2, 4],
    [4, 2],
    [1000, 2],
  ])('of %d ms is believed after %d READs in a row', (milliseconds, count) => {
    const latency = new Latency();
    for (let i = 1; i < count; i++) sample(latency, milliseconds + 0.01, 4 * KIB, 4 * KIB);
    expect(latency.far).toBe(false);
    sample(latency, milliseconds + 0.01, 4 * KIB, 4 * KIB);
    expect(latency.far).toBe(true);
  });

  test('is not what many bytes take', () => {
    const latency = new Latency();
    for (let i = 0; i < 1000; i++) sample(latency, 1, 2 * MIB, MIB);
    for (let i = 0; i < 1000; i++) sample(latency, 4, 8 * MIB, MIB);
    expect(latency.far).toBe(false);
    for (let i = 0; i < 10; i++) sample(latency, 10 + 1, 2 * MIB, MIB);
    expect(latency.far).toBe(true);
  });

  test('one quick READ among late ones tells of a near server', () => {
    const latency = new Latency();
    for (let i = 0; i < 100; i++) sample(latency, i % 2 === 0 ? 50 : 0.1, 4 * KIB, 4 * KIB);
    expect(latency.far).toBe(false);
  });

  test('of a far server is not forgotten while many bytes are under way, but for a READ that is alone', () => {
    const latency = far();
    for (let i = 0; i < 1000; i++) sample(latency, 4, 16 * MIB, MIB);
    expect(latency.far).toBe(true);
    sample(latency, 10.5, MIB, MIB);
    expect(latency.far).toBe(true);
    sample(latency, 0.6, MIB, MIB);
    expect(latency.far).toBe(false);
  });
});
