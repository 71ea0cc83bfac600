import { describe, expect, it } from 'vitest';
import { ReconnectPolicy } from '../../../src/transport/reconnect-policy.js';

const MIDDLE = () => 0.5;

function pauses(policy: ReconnectPolicy, count: number): number[] {
  return Array.from({ length: count }, () => policy.nextPause());
}

describe('reconnect policy', () => {
  it('tries at once, then doubles each pause, up to five seconds', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(0, true, true);
    expect(pauses(policy, 9)).toEqual([0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });

  it('shifts each pause by up to a quarter', () => {
    for (const [random, expected] of [
      [0, 75],
      [0.5, 100],
      [0.999999, 125],
    ]) {
      const policy = new ReconnectPolicy(60_000, () => random);
      policy.lost(0, true, true);
      expect(pauses(policy, 2)).toEqual([0, expected]);
    }
  });

  it.each([
    [0, 1000],
    [60_000, 61_000],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  ])('lets requests wait for %d ms after the last connection was lost', (limit, expected) => {
    const policy = new ReconnectPolicy(limit, MIDDLE);
    policy.lost(1000, true, true);
    expect(policy.expiresAt).toBe(expected);
  });

  it('sets no time limit while a connection is left', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(1000, false, true);
    expect(policy.expiresAt).toBe(Number.POSITIVE_INFINITY);
  });

  it('starts over after a connection that lasted a second', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(0, true, true);
    pauses(policy, 5);
    policy.connected(10_000);
    policy.lost(11_000, true, true);
    expect(policy.nextPause()).toBe(0);
    expect(policy.expiresAt).toBe(71_000);
  });

  it('keeps pauses and time limit after a connection that was soon dropped', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(0, true, true);
    pauses(policy, 3);
    policy.connected(10_000);
    policy.lost(10_999, true, true);
    expect(policy.nextPause()).toBe(400);
    expect(policy.expiresAt).toBe(60_000);
  });

  it('keeps pauses and time limit after a connection without progress, however long it lasted', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(0, true, true);
    pauses(policy, 3);
    policy.connected(10_000);
    policy.lost(50_000, true, false);
    expect(policy.nextPause()).toBe(400);
    expect(policy.expiresAt).toBe(60_000);
    policy.connected(51_000);
    policy.lost(59_000, true, true);
    expect(policy.nextPause()).toBe(0);
    expect(policy.expiresAt).toBe(119_000);
  });

  it('does not start over when the connections of one server are lost one after another', () => {
    const policy = new ReconnectPolicy(60_000, MIDDLE);
    policy.lost(0, false, true);
    pauses(policy, 3);
    policy.lost(2000, true, true);
    expect(policy.nextPause()).toBe(400);
    expect(policy.expiresAt).toBe(62_000);
  });
});
