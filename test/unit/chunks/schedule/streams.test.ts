// Readers in order.

import { describe, expect, it } from 'vitest';
import { Streams, unitsAhead } from '../../../../src/chunks/schedule/streams.js';

describe('readers in order', () => {
  it('are followed, several at the same time', () => {
    const streams = new Streams();
    for (let unit = 0; unit < 10; unit++) {
      expect(streams.note(unit)).toBe(unit + 1);
      expect(streams.note(5000 + unit)).toBe(unit + 1);
    }
  });

  it('may overtake themselves and skip a little', () => {
    const streams = new Streams();
    for (const unit of [0, 2, 1, 3, 6]) streams.note(unit);
    expect(streams.note(7)).toBe(5);
  });

  it('are forgotten when others come', () => {
    const streams = new Streams();
    streams.note(0);
    streams.note(1);
    for (let i = 1; i <= 20; i++) streams.note(i * 1000);
    expect(streams.note(2)).toBe(1);
  });

  it('are not read ahead for before they are steady', () => {
    expect([1, 2, 3, 100].map((run) => unitsAhead(run, 64))).toEqual([0, 0, 6, 64]);
  });
});
