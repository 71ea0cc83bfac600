import { expect, it } from 'vitest';
import { ReadThreadConnections } from '../../../../src/session/connect/read-thread-connections.js';
import type { NegotiatedConnection } from '../../../../src/transport/connection.js';
import type { NbdServer } from '../../../../src/transport/server.js';
import { PLAIN_EXPORT } from '../../../support/export-info.js';
import { FakeClock } from '../fake-clock.js';

/** The result of one connection: connecting fails, or the backend accepts it, refuses it, or fails. */
type Fate = 'unreachable' | 'taken' | 'refused' | 'failed';

function createWorld(...fates: Fate[]) {
  const clock = new FakeClock();
  const done: string[] = [];
  let fate: Fate | undefined;
  const connection = { info: PLAIN_EXPORT, close: () => done.push('closed') };
  const server: Pick<NbdServer, 'connect'> = {
    connect: async () => {
      fate = fates.shift();
      if (fate === undefined || fate === 'unreachable') throw new Error('no server');
      return connection as unknown as NegotiatedConnection;
    },
  };
  const supply = new ReadThreadConnections({
    server: server as NbdServer,
    info: PLAIN_EXPORT,
    addReadThread: async () => {
      if (fate === 'failed') throw new Error('no descriptors');
      done.push(fate ?? '');
      return fate === 'taken';
    },
    report: {
      line: () => undefined,
      detail: () => undefined,
      error: () => undefined,
      serverSaid: () => undefined,
      status: () => undefined,
    },
    clock,
  });
  return { supply, clock, done };
}

it.each<[Fate, string[]]>([
  ['unreachable', []],
  ['refused', ['refused', 'closed']],
  ['failed', ['closed']],
])('read thread connections: pauses when one is %s, and closes what it has', async (fate, expected) => {
  const { supply, clock, done } = createWorld(fate, 'taken');
  supply.add(1);
  await clock.advance(4999);
  expect(done).toEqual(expected);
  await clock.advance(1);
  expect(done).toEqual([...expected, 'taken']);
});

it('read thread connections: tries until all that were added are connected', async () => {
  const { supply, clock, done } = createWorld('taken', 'unreachable', 'refused', 'taken', 'taken');
  supply.add(2);
  await clock.advance(0);
  expect(done).toEqual(['taken']);
  await clock.advance(10_000);
  expect(done).toEqual(['taken', 'refused', 'closed', 'taken']);
  supply.add(1);
  await clock.advance(0);
  expect(done).toEqual(['taken', 'refused', 'closed', 'taken', 'taken']);
});

it('read thread connections: connects again after a loss, unless it has ended', async () => {
  const { supply, clock, done } = createWorld('taken', 'taken', 'taken');
  supply.add(1);
  await clock.advance(0);
  supply.connectionLost('the server closed the connection');
  await clock.advance(0);
  expect(done).toEqual(['taken', 'taken']);
  await supply.stop();
  supply.connectionLost('the server closed the connection');
  await clock.advance(60_000);
  expect(done).toEqual(['taken', 'taken']);
});

it('read thread connections: ends with its pending attempt', async () => {
  const { supply, clock, done } = createWorld('unreachable', 'taken');
  supply.add(1);
  await clock.advance(100);
  await supply.stop();
  supply.add(1);
  await clock.advance(60_000);
  expect(done).toEqual([]);
});
