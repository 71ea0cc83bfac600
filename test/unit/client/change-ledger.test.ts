import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChangeLedger, type ServerProcesses } from '../../../src/client/change-ledger.js';

const NEVER = Number.POSITIVE_INFINITY;

const range = (start: number, length: number) => ({ start: BigInt(start), end: BigInt(start + length) });

/** A server process with a volatile cache. It ends only after all its connections are lost. */
class Process implements ServerProcesses {
  ended = false;
  released = 0;

  release(): void {
    this.released++;
  }
}

interface Change {
  readonly at: number;
  readonly length: number;
  readonly isFua: boolean;
  readonly connection: Connection;
  state: 'sent' | 'answered' | 'lost';
  /** Whether it survives the end of its process. */
  isDurable: boolean;
  /** The number of connections made when it was answered. */
  born: number;
  /** Whether a flush has rejected since the last of these connections was lost. */
  isReported: boolean;
  lostAt: number;
}

interface Connection {
  readonly number: number;
  readonly process: Process;
  isLive: boolean;
}

interface Flush {
  readonly ticket: number;
  /** The changes that it must cover. */
  readonly duty: readonly Change[];
  sent: { connection: Connection; last: number; covers: readonly Change[] } | undefined;
}

/** A client, its connections and its server, played by numbers. A restart is possible when no connection lives. */
class World {
  readonly #settleTime: number;
  readonly #ledger: ChangeLedger;
  readonly #changes: Change[] = [];
  readonly #connections: Connection[] = [];
  #flushes: Flush[] = [];
  #process = new Process();
  #now = 0;
  resolved = 0;
  rejected = 0;
  refused = 0;

  constructor(settleTime: number) {
    this.#settleTime = settleTime;
    this.#ledger = new ChangeLedger(settleTime);
  }

  play(action: number, choice: number): void {
    this.#now++;
    const live = this.#connections.filter(({ isLive }) => isLive);
    const pick = <T>(some: readonly T[]): T | undefined => some[choice % Math.max(1, some.length)];
    const steps = [
      () => this.#connect(live.length === 0 && choice % 2 === 0),
      () => this.#send(pick(live), choice),
      () => this.#send(pick(live), choice),
      () => this.#answer(pick(this.#changes.filter(({ state }) => state === 'sent'))),
      () => this.#answer(pick(this.#changes.filter(({ state }) => state === 'sent'))),
      () => this.#lose(pick(live)),
      () => this.#beginFlush(),
      () => this.#sendFlush(pick(this.#flushes.filter(({ sent }) => sent === undefined)), choice),
      () => this.#answerFlush(pick(this.#flushes.filter(({ sent }) => sent !== undefined))),
    ];
    steps[action]();
  }

  #beginFlush(): void {
    this.#flushes.push({ ticket: this.#ledger.flushBegins(), duty: this.#answered(), sent: undefined });
  }

  #answered(): readonly Change[] {
    return this.#changes.filter(({ state, isFua }) => state === 'answered' && !isFua);
  }

  #connect(restarts: boolean): void {
    if (restarts) {
      this.#process.ended = true;
      this.#process = new Process();
    }
    const number = this.#ledger.made();
    this.#connections.push({ number, process: this.#process, isLive: true });
  }

  #send(connection: Connection | undefined, choice: number): void {
    if (connection === undefined) return;
    const [at, length] = [choice % 8, 1 + ((choice >> 3) % 3)];
    const mayStillBeMade = this.#changes.some(
      (old) =>
        old.state === 'lost' &&
        at < old.at + old.length &&
        old.at < at + length &&
        !old.connection.process.ended &&
        this.#now - old.lostAt < this.#settleTime,
    );
    const isInDoubt = this.#ledger.isInDoubt(BigInt(at), BigInt(at + length), this.#now);
    expect(isInDoubt).toBe(mayStillBeMade);
    if (isInDoubt) this.refused++;
    else {
      const isFua = choice % 16 > 12;
      const fresh = { state: 'sent', isDurable: false, isReported: false, lostAt: 0, born: 0 } as const;
      this.#changes.push({ at, length, isFua, connection, ...fresh });
    }
  }

  #answer(change: Change | undefined): void {
    if (change === undefined) return;
    change.state = 'answered';
    change.born = this.#connections.length;
    if (change.isFua) change.isDurable = true;
    else this.#ledger.answered();
  }

  #lose(connection: Connection | undefined): void {
    if (connection === undefined) return;
    connection.isLive = false;
    const unanswered = this.#changes.filter((one) => one.connection === connection && one.state === 'sent');
    for (const change of unanswered) {
      change.state = 'lost';
      change.lostAt = this.#now;
    }
    const ranges = unanswered.map(({ at, length }) => range(at, length));
    this.#ledger.lost(connection.number, ranges, this.#now, connection.process);
    // Their FLUSH is sent again.
    for (const flush of this.#flushes) if (flush.sent?.connection === connection) flush.sent = undefined;
  }

  #sendFlush(flush: Flush | undefined, choice: number): void {
    if (flush === undefined) return;
    if (this.#ledger.mustFail(flush.ticket)) {
      this.rejected++;
      const oldest = Math.min(...this.#connections.flatMap((one) => (one.isLive ? [one.number] : [])));
      for (const change of this.#answered()) if (oldest > change.born) change.isReported = true;
      this.#flushes = this.#flushes.filter((one) => one !== flush);
      return;
    }
    const able = this.#connections.filter((one) => one.isLive && one.number <= this.#ledger.coveredBy);
    if (able.length === 0) {
      // There is none at all: the oldest one always covers everything.
      expect(this.#connections.some(({ isLive }) => isLive)).toBe(false);
      return;
    }
    const connection = able[choice % able.length];
    const covers = this.#changes.filter(
      (one) => one.state === 'answered' && one.connection.process === connection.process,
    );
    flush.sent = { connection, last: this.#ledger.flushSent(), covers };
  }

  #answerFlush(flush: Flush | undefined): void {
    if (flush?.sent === undefined) return;
    for (const change of flush.sent.covers) change.isDurable = true;
    this.#ledger.flushed(flush.sent.last);
    this.#flushes = this.#flushes.filter((one) => one !== flush);
    this.resolved++;
    const forgotten = flush.duty.filter(({ isDurable, isReported }) => !isDurable && !isReported);
    expect(forgotten).toEqual([]);
  }
}

const actions = fc.array(fc.tuple(fc.nat(8), fc.nat(255)), { minLength: 20, maxLength: 120 });

describe('change ledger in random orders of events', () => {
  test.each([NEVER, 15])(
    'never lets an older change land on a newer one, nor a flush lie: settle time %d',
    (time) => {
      const total = { resolved: 0, rejected: 0, refused: 0 };
      fc.assert(
        fc.property(actions, (played) => {
          const world = new World(time);
          for (const [action, choice] of played) world.play(action, choice);
          total.resolved += world.resolved;
          total.rejected += world.rejected;
          total.refused += world.refused;
        }),
        { numRuns: 2000 },
      );
      // The histories contain what they are about.
      for (const count of Object.values(total)) expect(count).toBeGreaterThan(100);
    },
  );
});

describe('change ledger ranges in doubt', () => {
  test('end with the processes of their own connection, which it then releases', () => {
    const ledger = new ChangeLedger(NEVER);
    const [first, second] = [new Process(), new Process()];
    const [a, b] = [ledger.made(), ledger.made()];
    ledger.lost(a, [range(0, 10), range(5, 10)], 0, first);
    ledger.lost(b, [range(100, 10)], 0, second);
    expect([0, 14, 15, 100].map((at) => ledger.isInDoubt(BigInt(at), BigInt(at + 1), 1))).toEqual([
      true,
      true,
      false,
      true,
    ]);
    first.ended = true;
    expect(ledger.isInDoubt(0n, 1n, 2)).toBe(false);
    expect(ledger.isInDoubt(100n, 101n, 2)).toBe(true);
    expect([first.released, second.released]).toEqual([1, 0]);
    ledger.close();
    expect([first.released, second.released]).toEqual([1, 1]);
  });

  test('end with the settle time', () => {
    const ledger = new ChangeLedger(1000);
    ledger.lost(ledger.made(), [range(0, 10)], 5000, undefined);
    expect(ledger.isInDoubt(9n, 20n, 5999)).toBe(true);
    expect(ledger.isInDoubt(9n, 20n, 6000)).toBe(false);
    expect(ledger.hasDoubts).toBe(false);
  });

  test('end when a caller knows that the server of earlier losses has ended', () => {
    const ledger = new ChangeLedger(NEVER);
    ledger.lost(ledger.made(), [range(0, 10)], 0, undefined);
    const ended = ledger.whenServerEnds();
    ledger.lost(ledger.made(), [range(20, 10)], 1, undefined);
    ended();
    expect(ledger.isInDoubt(0n, 10n, 2)).toBe(false);
    expect(ledger.isInDoubt(20n, 30n, 2)).toBe(true);
  });

  test('do not exist when no change was in flight, and the processes are released', () => {
    const ledger = new ChangeLedger(NEVER);
    const process = new Process();
    ledger.lost(ledger.made(), [], 0, process);
    expect([ledger.hasDoubts, process.released]).toEqual([false, 1]);
  });

  test('stay in doubt, and release all processes, when there are more losses and ranges than it keeps', () => {
    const ledger = new ChangeLedger(NEVER);
    const processes = Array.from({ length: 200 }, () => new Process());
    for (const [i, process] of processes.entries())
      ledger.lost(ledger.made(), [range(10 * i, 1)], i, process);
    const scattered = Array.from({ length: 5000 }, (_, i) => range(100_000 + 10 * i, 1));
    ledger.lost(ledger.made(), scattered, 200, undefined);
    for (const { start, end } of [...scattered, ...processes.map((_, i) => range(10 * i, 1))])
      expect(ledger.isInDoubt(start, end, 300)).toBe(true);
    expect(ledger.isInDoubt(200_000n, 300_000n, 300)).toBe(false);
    ledger.close();
    expect(processes.every(({ released }) => released === 1)).toBe(true);
  });
});

describe('change ledger flushes', () => {
  test('reject once after a loss, and then work', () => {
    const ledger = new ChangeLedger(NEVER);
    const first = ledger.made();
    ledger.answered();
    ledger.lost(first, [], 0, undefined);
    ledger.made();
    expect([1, 2, 3].map(() => ledger.mustFail(ledger.flushBegins()))).toEqual([true, false, false]);
  });

  test('reject in every caller that waited at the loss', () => {
    const ledger = new ChangeLedger(NEVER);
    const first = ledger.made();
    ledger.answered();
    const tickets = [ledger.flushBegins(), ledger.flushBegins()];
    ledger.lost(first, [], 0, undefined);
    expect(tickets.map((ticket) => ledger.mustFail(ticket))).toEqual([true, true]);
    expect(ledger.mustFail(ledger.flushBegins())).toBe(false);
  });

  test('reject again when a younger connection with changes is lost, too', () => {
    const ledger = new ChangeLedger(NEVER);
    const first = ledger.made();
    ledger.answered();
    const second = ledger.made();
    ledger.answered();
    ledger.lost(first, [], 0, undefined);
    expect(ledger.mustFail(ledger.flushBegins())).toBe(true);
    ledger.lost(second, [], 0, undefined);
    expect(ledger.mustFail(ledger.flushBegins())).toBe(true);
    expect(ledger.mustFail(ledger.flushBegins())).toBe(false);
  });

  test('do not reject when everything was flushed, or a connection of that time lives', () => {
    const ledger = new ChangeLedger(NEVER);
    const [first, second] = [ledger.made(), ledger.made()];
    ledger.answered();
    ledger.lost(first, [], 0, undefined);
    const third = ledger.made();
    expect(ledger.mustFail(ledger.flushBegins())).toBe(false);
    // The third may lead to a server that does not know the change.
    expect(ledger.coveredBy).toBe(second);
    ledger.flushed(ledger.flushSent());
    expect(ledger.coveredBy).toBe(third);
    ledger.lost(second, [], 0, undefined);
    ledger.lost(third, [], 0, undefined);
    expect(ledger.mustFail(ledger.flushBegins())).toBe(false);
  });
});
