// The reasons for which requests and new connections of a disk wait. Pure.
//
// Made for the status only when somebody requests it.

import type { ByteRange } from '../../nbd/byte-range.js';
import type { FuseRequest } from '../flight/fuse-request.js';
import type { CommandQueue, NbdCommand } from '../flight/nbd-command.js';
import { type LostBytes, PROOF_PATIENCE, type RangeOrder, rangeOf } from './changes.js';
import type { Recovery } from './recovery.js';

/** See WaitStatus. Times in seconds. */
export interface Wait {
  readonly reason: 'overlap' | 'proof' | 'replay' | 'identity' | 'flush' | 'connection';
  readonly count: number;
  readonly total?: number;
  /** The bytes of the older change. */
  readonly bytes?: ByteRange;
  readonly secondsLeft?: number;
  readonly seconds?: number;
}

/** The state of a disk from which its waits follow. */
export interface Waiting {
  readonly order: RangeOrder;
  /** Changes that wait for proof. */
  readonly unproven: readonly NbdCommand[];
  /** The lost change for which one of them waits. */
  lostBefore(change: NbdCommand): LostBytes | undefined;
  readonly recovery: Pick<Recovery, 'replay' | 'unverified' | 'unproven'>;
  /** Commands that wait for a connection. */
  readonly queue: CommandQueue;
  /** Time in milliseconds at which the last connection was lost. */
  readonly lostAt: number | undefined;
  /** Milliseconds. */
  readonly now: number;
}

/** Number of requests to which commands belong. */
export function requestsOf(commands: readonly NbdCommand[]): number {
  return new Set<FuseRequest | NbdCommand>(commands.map((command) => command.request ?? command)).size;
}

function inQueue({ first }: CommandQueue): NbdCommand[] {
  const commands: NbdCommand[] = [];
  for (let command = first; command !== undefined; command = command.next) commands.push(command);
  return commands;
}

function overlapWait({ order }: Waiting): Wait {
  const older = order.oldestAwaited;
  return {
    reason: 'overlap',
    count: order.waiting.length,
    ...(older === undefined ? {} : { bytes: rangeOf(older) }),
  };
}

function proofWait({ unproven, lostBefore, now }: Waiting): Wait {
  const lost = unproven.map(lostBefore).filter((one) => one !== undefined);
  const [first] = lost.sort((a, b) => a.lostAt - b.lostAt);
  const wait = { reason: 'proof', count: requestsOf(unproven) } as const;
  if (first === undefined) return wait;
  const { start, end, lostAt } = first;
  const secondsLeft = Math.max(0, Math.ceil((lostAt + PROOF_PATIENCE - now) / 1000));
  return { ...wait, bytes: { start, end }, secondsLeft };
}

function connectionWait({ queue, lostAt, now }: Waiting): Wait {
  const seconds = lostAt === undefined ? {} : { seconds: Math.floor((now - lostAt) / 1000) };
  return { reason: 'connection', count: requestsOf(inQueue(queue)), ...seconds };
}

/** The waits of a disk: at most one for each reason. */
export function waitsOf(waiting: Waiting): readonly Wait[] {
  const { replay, unverified, unproven } = waiting.recovery;
  const all: readonly Wait[] = [
    overlapWait(waiting),
    proofWait(waiting),
    { reason: 'replay', count: replay?.left ?? 0, total: replay?.all ?? 0 },
    { reason: 'identity', count: unverified },
    { reason: 'flush', count: unproven },
    connectionWait(waiting),
  ];
  return all.filter(({ count, total = 0 }) => count + total > 0);
}
