import { describe, expect, it } from 'vitest';
import type { ExportInfo } from '../../../../src/nbd/export-info.js';
import { type FreshConnection, Reconnector } from '../../../../src/session/connect/reconnect.js';
import { ReconnectPolicy } from '../../../../src/transport/reconnect-policy.js';
import { PLAIN_EXPORT } from '../../../support/export-info.js';
import { FakeClock, settle } from '../fake-clock.js';

interface World {
  readonly clock: FakeClock;
  readonly reconnector: Reconnector<FreshConnection>;
  readonly lines: string[];
  readonly events: string[];
  /** The results of the next attempts to connect; the last one stays. */
  readonly answers: (ExportInfo | Error)[];
}

function createWorld(options: { limit?: number; connectable?: boolean; connections?: number } = {}): World {
  const { limit = 60_000, connectable = true, connections = 1 } = options;
  const clock = new FakeClock();
  const lines: string[] = [];
  const events: string[] = [];
  const answers: (ExportInfo | Error)[] = [];
  const fresh = (info: ExportInfo): FreshConnection => ({ info, close: () => events.push('close') });
  const connect = async (): Promise<FreshConnection> => {
    events.push(`connect at ${clock.now()}`);
    const answer = (answers.length > 1 ? answers.shift() : answers[0]) ?? PLAIN_EXPORT;
    if (answer instanceof Error) throw answer;
    return fresh(answer);
  };
  const reconnector: Reconnector<FreshConnection> = new Reconnector({
    name: 'dir/nbd',
    info: PLAIN_EXPORT,
    policy: new ReconnectPolicy(limit, () => 0.5),
    clock,
    report: { line: (text) => lines.push(text), detail: () => undefined },
    connect: connectable ? connect : undefined,
    attach: (slot) => {
      events.push(`attach ${slot}`);
      reconnector.accepted(slot);
    },
    fail: () => events.push(`fail at ${clock.now()}`),
    isOver: () => false,
    explain: async (why) => why,
  });
  for (let slot = 0; slot < connections; slot++) reconnector.attach(slot, fresh(PLAIN_EXPORT));
  events.length = 0;
  return { clock, reconnector, lines, events, answers };
}

const USEFUL = { madeProgress: true, otherDisk: false };
const USELESS = { madeProgress: false, otherDisk: false };

const REFUSED = new Error('connection refused');

describe('reconnector', () => {
  it('connects at once when the connection is lost', async () => {
    const { reconnector, events, lines } = createWorld();
    reconnector.lost(0, 'connection reset', USEFUL);
    await settle();
    expect(events).toEqual(['connect at 0', 'attach 0']);
    expect(lines).toEqual([
      'dir/nbd: the server is lost: connection reset; reconnecting',
      'dir/nbd: reconnected after 0.0 s',
    ]);
  });

  it('tries again with growing pauses until the server is back', async () => {
    const { reconnector, events, answers, clock, lines } = createWorld();
    answers.push(REFUSED, REFUSED, REFUSED, PLAIN_EXPORT);
    reconnector.lost(0, 'closed', USEFUL);
    await clock.advance(1000);
    expect(events).toEqual([
      'connect at 0',
      'connect at 100',
      'connect at 300',
      'connect at 700',
      'attach 0',
    ]);
    expect(lines.at(-1)).toBe('dir/nbd: reconnected after 0.7 s');
  });

  it('restores every lost connection, and fails no request while one is left', async () => {
    const { reconnector, events, lines } = createWorld({ connections: 3, limit: 0 });
    reconnector.lost(2, 'closed', USEFUL);
    reconnector.lost(1, 'closed', USEFUL);
    await settle();
    expect(events).toEqual(['connect at 0', 'attach 2', 'connect at 0', 'attach 1']);
    expect(lines).toEqual([]);
  });

  it('counts a further connection that was being made as the end of an outage', async () => {
    const { reconnector, events, answers, clock, lines } = createWorld();
    answers.push(REFUSED);
    reconnector.lost(0, 'closed', USEFUL);
    await clock.advance(700);
    reconnector.attach(1, { info: PLAIN_EXPORT, close: () => undefined });
    expect(events).toContain('attach 1');
    await settle();
    expect(lines.at(-1)).toBe('dir/nbd: reconnected after 0.7 s');
  });

  it('fails requests with EIO when the time is over, keeps trying, and works again later', async () => {
    const { reconnector, events, answers, clock, lines } = createWorld({ limit: 2000 });
    answers.push(REFUSED);
    reconnector.lost(0, 'closed', USEFUL);
    await clock.advance(2000);
    expect(events.at(-1)).toBe('fail at 2000');
    expect(reconnector.failed).toBe(true);
    expect(lines.at(-1)).toBe(
      'dir/nbd: no server for 2 s: connection refused; reads and writes fail with EIO until it is back',
    );
    answers.splice(0, answers.length, PLAIN_EXPORT);
    await clock.advance(5000);
    expect(events.at(-1)).toBe('attach 0');
    expect(reconnector.failed).toBe(false);
  });

  it('fails requests at once with a limit of zero', async () => {
    const { reconnector, events, answers, clock } = createWorld({ limit: 0 });
    answers.push(REFUSED);
    reconnector.lost(0, 'closed', USEFUL);
    await clock.advance(0);
    expect(events).toEqual(['connect at 0', 'fail at 0']);
  });

  it('never fails requests with --reconnect=forever', async () => {
    const { reconnector, events, answers, clock } = createWorld({ limit: Number.POSITIVE_INFINITY });
    answers.push(REFUSED);
    reconnector.lost(0, 'closed', USEFUL);
    await clock.advance(1_000_000);
    expect(events.filter((event) => event.startsWith('fail'))).toEqual([]);
    expect(events.length).toBeGreaterThan(200);
    await reconnector.stop();
  });

  it('refuses a server that came back with another size', async () => {
    const { reconnector, events, answers, lines } = createWorld();
    answers.push({ ...PLAIN_EXPORT, size: 512n }, PLAIN_EXPORT);
    reconnector.lost(0, 'closed', USEFUL);
    await settle();
    expect(events).toEqual(['connect at 0', 'close', 'fail at 0']);
    expect(lines.at(-1)).toMatch(/^dir\/nbd: the server came back with another export: .*EIO$/);
    await reconnector.stop();
  });

  it('fails requests for good where it cannot reconnect', async () => {
    const { reconnector, events, lines, clock } = createWorld({ connectable: false });
    reconnector.lost(0, 'nbdkit exited with status 1', USEFUL);
    await clock.advance(100_000);
    expect(events).toEqual(['fail at 0']);
    expect(lines).toEqual([
      'dir/nbd: the server is lost: nbdkit exited with status 1; reads and writes fail with EIO from now on',
    ]);
  });

  it('does not start over for a server that accepts and drops connections', async () => {
    const { reconnector, events, clock } = createWorld({ limit: 3000 });
    for (let time = 0; time < 4000; time += 100) {
      reconnector.lost(0, 'closed', USEFUL);
      await clock.advance(100);
    }
    expect(events.filter((event) => event.startsWith('connect')).length).toBeLessThan(10);
    expect(events).toContain('fail at 3000');
    await reconnector.stop();
  });

  it('does not start over for a server that breaks the protocol on every connection', async () => {
    const { reconnector, events, clock } = createWorld({ limit: 20_000 });
    for (let round = 0; round < 12; round++) {
      reconnector.lost(0, 'a reply begins with magic 0x0', USELESS);
      // Longer than any pause, and than it takes a connection to count as stable.
      await clock.advance(7000);
    }
    const times = events
      .filter((event) => event.startsWith('connect'))
      .map((event) => Number(event.slice(11)));
    const pauses = times.map((time, i) => time - 7000 * i);
    expect(pauses).toEqual([0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000, 5000]);
    expect(events).toContain('fail at 21000');
    await reconnector.stop();
  });

  it('ends its attempts at stop()', async () => {
    const { reconnector, events, answers, clock } = createWorld();
    answers.push(REFUSED);
    reconnector.lost(0, 'closed', USEFUL);
    await settle();
    await reconnector.stop();
    await clock.advance(100_000);
    expect(events).toEqual(['connect at 0']);
  });
});
