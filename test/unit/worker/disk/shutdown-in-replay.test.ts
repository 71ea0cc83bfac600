// A server that is shutting down refuses a write that a replay sends, while another connection is ready for a replay.

import { expect, test } from 'vitest';
import { NBD_ESHUTDOWN } from '../../../../src/nbd/constants.js';
import type { Action } from '../../../../tools/simulate/actions.js';
import { replay } from '../../../../tools/simulate/history.js';
import { makeProfile, type Profile } from '../../../../tools/simulate/profile.js';

const PROFILE: Profile = {
  ...makeProfile(1, { without: [], only: [] }),
  files: 1,
  units: 128,
  blockSizes: undefined,
  headers: 'simple',
  flush: true,
  allocation: false,
  connections: 2,
  cache: 'none',
  unflushedLimit: 64 * 1024 * 1024,
  timeout: 0,
  readAhead: false,
  unixSocket: true,
  knowsPeer: true,
  settleTime: Number.POSITIVE_INFINITY,
  ownServer: false,
  room: 65_536,
  inOrder: false,
};

const ALL = 1e9;
const RUN: Action = { do: 'run' };
const FLUSH = 'NBD_CMD_FLUSH';
const READ = 'NBD_CMD_READ offset 0 length 512';
const WRITE = 'NBD_CMD_WRITE offset 0 length 512';
/** The blocks by which the worker knows the disk. */
const SAMPLES = [READ, 'NBD_CMD_READ offset 32256 length 512', 'NBD_CMD_READ offset 65024 length 512'];

const connect = (c: number, slot: number): Action => ({ do: 'connect', c, file: 0, slot });
const receive = (c: number): Action => ({ do: 'receive', c, bytes: ALL });
const execute = (c: number, key: string, errno = 0): Action => ({ do: 'execute', c, key, errno });

function request(kind: 'open' | 'write' | 'read', id: number): Action {
  const length = kind === 'open' ? 0 : 512;
  return { do: kind, id, file: 0, offset: 0, length, direct: true, sync: false, hidden: false };
}

/** Answers a command that connection `c` carries. */
function answer(c: number, key: string, errno = 0): Action[] {
  const reply: Action = { do: 'reply', c, key, pieces: 1 };
  return [RUN, receive(c), execute(c, key, errno), reply, { do: 'deliver', c, bytes: ALL }];
}

/** Answers the same command on two connections before the worker runs again. */
function answerBoth(c: number, other: number, key: string): Action[] {
  return [...answer(c, key), ...answer(other, key).slice(1)];
}

/** An unflushed write, the end of its server, and the beginning of a replay that the next server refuses. */
const REFUSED_REPLAY: readonly Action[] = [
  RUN,
  request('open', 1),
  RUN,
  request('write', 2),
  ...SAMPLES.flatMap((sample) => answer(0, sample)),
  ...answer(0, WRITE),
  RUN,
  { do: 'kill', salt: 1 },
  RUN,
  { do: 'start' },
  connect(2, 0),
  connect(3, 1),
  ...SAMPLES.flatMap((sample) => answerBoth(2, 3, sample)),
  ...answer(2, WRITE, NBD_ESHUTDOWN),
  RUN,
];

test('the replay continues on the other connection', () => {
  const log: string[] = [];
  const steps = [...REFUSED_REPLAY, ...answer(3, WRITE), ...answer(3, FLUSH), RUN];
  expect(replay(PROFILE, steps, log).violation?.message).toBeUndefined();
  expect(log.filter((line) => line.includes(`connection 3: ${FLUSH} is answered`))).toHaveLength(1);
  expect(log.filter((line) => line.includes('not in flight'))).toEqual([]);
});

test('the copy on a closing connection is a lost copy when that connection ends', () => {
  const steps = [
    ...REFUSED_REPLAY,
    receive(3),
    { do: 'close', c: 3, reset: false } as const,
    RUN,
    connect(4, 0),
    ...SAMPLES.flatMap((sample) => answer(4, sample)),
    ...answer(4, WRITE),
    ...answer(4, FLUSH),
    RUN,
    request('write', 3),
    ...answer(4, WRITE),
    execute(3, WRITE),
    RUN,
    request('read', 4),
    ...answer(4, READ),
  ];
  expect(replay(PROFILE, steps).violation?.message).toBeUndefined();
});
