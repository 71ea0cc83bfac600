import { describe, expect, it } from 'vitest';
import { addressOf, libc } from '../../../../src/linux/libc.js';
import { type Pipe, pipe } from '../../../../src/linux/pipe.js';
import { BufferPool } from '../../../../src/worker/memory/buffer-pool.js';
import { Forwarding } from '../../../../src/worker/read-threads/forwarding.js';
import {
  makeRingMemory,
  RING_INTERRUPT,
  RING_REQUEST,
  RingConsumer,
  RingProducer,
} from '../../../../src/worker/read-threads/ring.js';
import { createScope, type Scope } from '../../../support/cleanup.js';

const PLACES = 256;

function createPipe(scope: Scope): Pipe {
  const ends = pipe();
  scope.add(() => {
    libc.close(ends.read);
    libc.close(ends.write);
  });
  return ends;
}

/** Bytes that wait in a pipe, which is empty afterwards. */
function bytesIn({ read }: Pipe): number {
  const buffer = Buffer.alloc(1024);
  return Math.max(0, libc.read(read, addressOf(buffer), buffer.length));
}

function createRing(scope: Scope) {
  const memory = makeRingMemory();
  const toWorker = createPipe(scope);
  const sender = new RingProducer(memory, toWorker.write);
  const receiver = new RingConsumer({ connection: 4, descriptor: 77, wake: -1, memory });
  const takeAll = (): number[][] => {
    const taken: number[][] = [];
    for (receiver.listen(); receiver.next(); receiver.take())
      taken.push([receiver.kind, receiver.a, receiver.b]);
    return taken;
  };
  return { sender, receiver, toWorker, takeAll };
}

describe('ring', () => {
  it('delivers messages in order, however often it wraps around', () => {
    const { sender, takeAll } = createRing(createScope());
    for (let i = 0; i < 10 * PLACES; i += 3) {
      for (const n of [i, i + 1, i + 2]) expect(sender.push(RING_REQUEST, 2 ** 46 + n, n)).toBe(true);
      expect(takeAll()).toEqual([i, i + 1, i + 2].map((n) => [RING_REQUEST, 2 ** 46 + n, n]));
    }
  });

  it('accepts no more messages than it has places', () => {
    const { sender, takeAll } = createRing(createScope());
    for (let i = 0; i < PLACES; i++) expect(sender.push(RING_REQUEST, i, i)).toBe(true);
    expect(sender.push(RING_REQUEST, 0, 0)).toBe(false);
    expect(takeAll()).toHaveLength(PLACES);
    expect(sender.push(RING_REQUEST, 0, 0)).toBe(true);
  });

  it('wakes the worker once until it listens again', () => {
    const { sender, toWorker, takeAll } = createRing(createScope());
    sender.push(RING_INTERRUPT, 1, 2);
    sender.push(RING_INTERRUPT, 1, 3);
    expect(bytesIn(toWorker)).toBe(1);
    takeAll();
    sender.push(RING_INTERRUPT, 1, 4);
    expect(bytesIn(toWorker)).toBe(1);
  });

  it('shows each side the flags of the other', () => {
    const { sender, receiver } = createRing(createScope());
    const flags = () => [sender.remote, sender.changing, receiver.connected, receiver.inFlight];
    expect(flags()).toEqual([false, false, false, 0]);
    receiver.remote = true;
    receiver.changing = true;
    sender.publish(true, 5);
    sender.counters[3] = 7;
    expect(flags()).toEqual([true, true, true, 5]);
    expect(receiver.counters[3]).toBe(7);
  });
});

describe('forwarding', () => {
  it('keeps order and memory without room in the ring, until all is taken', () => {
    const { sender, receiver, takeAll } = createRing(createScope());
    const buffers = new BufferPool(1024 * 1024 * 1024);
    const forwarding = new Forwarding(sender, buffers);
    const count = 3 * PLACES + 7;
    const seen: string[] = [];
    for (let i = 0; i < count; i++) {
      const buffer = buffers.take(100);
      buffer.view.setUint32(0, i);
      forwarding.request(buffer, 4);
      if (i % 100 === 0) forwarding.interrupt(9, i);
    }
    const copy = new DataView(new ArrayBuffer(4));
    while (forwarding.pending > 0) {
      for (receiver.listen(); receiver.next(); receiver.take()) {
        if (receiver.kind === RING_REQUEST) {
          libc.memcpy(addressOf(copy), receiver.a, receiver.b);
          seen.push(String(copy.getUint32(0)));
        } else seen.push(`${receiver.a}:${receiver.b}`);
      }
      forwarding.advance();
    }
    const expected = Array.from({ length: count }, (_, i) =>
      i % 100 === 0 ? [String(i), `9:${i}`] : [String(i)],
    );
    expect(seen).toEqual(expected.flat());
    expect(takeAll()).toEqual([]);
  });
});
