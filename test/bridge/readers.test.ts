import { describe, expect, it } from 'vitest';
import { Blocks } from '../../src/bridge/blocks.js';
import { Passing } from '../../src/bridge/passing.js';
import {
  makeRelayMemory,
  RELAY_INTERRUPT,
  RELAY_REQUEST,
  RelayReceiver,
  RelaySender,
} from '../../src/bridge/relay.js';
import { Workload } from '../../src/bridge/workload.js';
import { addressOf, libc } from '../../src/os/libc.js';
import { type Pipe, pipe } from '../../src/os/pipe.js';
import { createScope, type Scope } from '../helpers/cleanup.js';

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

function createRelay(scope: Scope) {
  const memory = makeRelayMemory();
  const toWorker = createPipe(scope);
  const toReader = createPipe(scope);
  const sender = new RelaySender(memory, toWorker.write);
  const receiver = new RelayReceiver(4, 77, memory, toReader.write);
  const takeAll = (): number[][] => {
    const taken: number[][] = [];
    for (receiver.listen(); receiver.next(); receiver.take())
      taken.push([receiver.kind, receiver.a, receiver.b]);
    return taken;
  };
  return { sender, receiver, toWorker, toReader, takeAll };
}

describe('ring', () => {
  it('delivers messages in order, however often it wraps around', () => {
    const { sender, takeAll } = createRelay(createScope());
    for (let i = 0; i < 10 * PLACES; i += 3) {
      for (const n of [i, i + 1, i + 2]) expect(sender.pass(RELAY_REQUEST, 2 ** 46 + n, n)).toBe(true);
      expect(takeAll()).toEqual([i, i + 1, i + 2].map((n) => [RELAY_REQUEST, 2 ** 46 + n, n]));
    }
  });

  it('takes no more messages than it has places', () => {
    const { sender, takeAll } = createRelay(createScope());
    for (let i = 0; i < PLACES; i++) expect(sender.pass(RELAY_REQUEST, i, i)).toBe(true);
    expect(sender.pass(RELAY_REQUEST, 0, 0)).toBe(false);
    expect(takeAll()).toHaveLength(PLACES);
    expect(sender.pass(RELAY_REQUEST, 0, 0)).toBe(true);
  });

  it('wakes the worker once until it listens again', () => {
    const { sender, toWorker, takeAll } = createRelay(createScope());
    sender.pass(RELAY_INTERRUPT, 1, 2);
    sender.pass(RELAY_INTERRUPT, 1, 3);
    expect(bytesIn(toWorker)).toBe(1);
    takeAll();
    sender.pass(RELAY_INTERRUPT, 1, 4);
    expect(bytesIn(toWorker)).toBe(1);
  });

  it('shows each side the flags of the other', () => {
    const { sender, receiver, toReader } = createRelay(createScope());
    expect([sender.wanted, sender.far, receiver.connected, receiver.inFlight]).toEqual([
      false,
      false,
      false,
      0,
    ]);
    receiver.call();
    receiver.far = true;
    sender.tell(true, 5);
    sender.counters[3] = 7;
    expect([sender.wanted, sender.far, receiver.connected, receiver.inFlight]).toEqual([true, true, true, 5]);
    expect(receiver.counters[3]).toBe(7);
    expect(bytesIn(toReader)).toBe(1);
    sender.rest();
    expect(receiver.wanted).toBe(false);
  });
});

describe('forwarding', () => {
  it('keeps order and memory without room in the ring, until all is taken', () => {
    const { sender, receiver, takeAll } = createRelay(createScope());
    const blocks = new Blocks(1024 * 1024 * 1024);
    const passing = new Passing(sender, blocks);
    const count = 3 * PLACES + 7;
    const seen: string[] = [];
    for (let i = 0; i < count; i++) {
      const block = blocks.take(100);
      block.view.setUint32(0, i);
      passing.request(block, 4);
      if (i % 100 === 0) passing.interrupt(9, i);
    }
    const copy = new DataView(new ArrayBuffer(4));
    while (passing.pending > 0) {
      for (receiver.listen(); receiver.next(); receiver.take()) {
        if (receiver.kind === RELAY_REQUEST) {
          libc.memcpy(addressOf(copy), receiver.a, receiver.b);
          seen.push(String(copy.getUint32(0)));
        } else seen.push(`${receiver.a}:${receiver.b}`);
      }
      passing.advance();
    }
    const expected = Array.from({ length: count }, (_, i) =>
      i % 100 === 0 ? [String(i), `9:${i}`] : [String(i)],
    );
    expect(seen).toEqual(expected.flat());
    expect(takeAll()).toEqual([]);
  });
});

describe('load', () => {
  it('reports the share of busy time once in a tenth of a second', () => {
    const workload = new Workload(1000);
    workload.waited(30);
    expect(workload.share(1099)).toBe(undefined);
    workload.waited(20);
    expect(workload.share(1100)).toBeCloseTo(0.5);
    expect(workload.share(1150)).toBe(undefined);
    expect(workload.share(1200)).toBe(1);
  });

  it('is zero after a long sleep', () => {
    const workload = new Workload(0);
    workload.waited(60_000);
    expect(workload.share(60_000)).toBe(0);
  });
});
