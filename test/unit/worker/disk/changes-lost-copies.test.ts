// The events that prove that a lost change cannot take effect any more, and events that do not.

import { expect, test } from 'vitest';
import { NBD_CMD_WRITE } from '../../../../src/nbd/constants.js';
import { LostCopies, type SentOn } from '../../../../src/worker/disk/changes.js';
import { CommandTable, type NbdCommand } from '../../../../src/worker/flight/nbd-command.js';

class FakePeer {
  ended = false;
  references = 1;
  share(): FakePeer {
    this.references++;
    return this;
  }
  release(): void {
    this.references--;
  }
}

const commands = new CommandTable();

function write(change: number, start: number, length: number): NbdCommand {
  const command = commands.take();
  Object.assign(command, { type: NBD_CMD_WRITE, change, offsetLo: start, length });
  return command;
}

const on = (peer: FakePeer | undefined, closing: boolean, arrival = 1): SentOn => ({
  peer,
  closing,
  arrival,
});

const everything = (lost: LostCopies): number | undefined => lost.overlapping(0n, 1000n, 1000)?.lostAt;

test('lost copies: only older changes that overlap count', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  lost.add(write(5, 100, 50), on(undefined, false), 7);
  expect(lost.overlapping(0n, 100n, 9)).toBe(undefined);
  expect(lost.overlapping(150n, 200n, 9)).toBe(undefined);
  expect(lost.overlapping(149n, 150n, 9)).toMatchObject({ lostAt: 7 });
  expect(lost.overlapping(149n, 150n, 5)).toBe(undefined);
});

test('lost copies: a reply resolves a copy on a connection that the worker still reads', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  const [first, second] = [write(1, 0, 10), write(2, 20, 10)];
  for (const one of [first, second]) lost.add(one, on(undefined, true), 0);
  lost.answered(first);
  expect(lost.count).toBe(1);
  expect(lost.awaits(first)).toBe(false);
  expect(lost.awaits(second)).toBe(true);
});

test('lost copies: the end of the connection proves nothing', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  const one = write(1, 0, 10);
  lost.add(one, on(undefined, true), 0);
  lost.closed(one, 1);
  lost.look(1e9);
  expect(everything(lost)).toBe(0);
  expect(lost.awaits(one)).toBe(false);
});

test('lost copies: the end of the process that received a copy is proof', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  const [mine, other] = [new FakePeer(), new FakePeer()];
  lost.add(write(1, 0, 10), on(mine, false), 0);
  lost.add(write(2, 20, 10), on(other, false), 0);
  expect(lost.look(1)).toBe(false);
  mine.ended = true;
  expect(lost.look(2)).toBe(true);
  expect(lost.changes.map(({ offsetLo }) => offsetLo)).toEqual([20]);
  expect([mine.references, other.references]).toEqual([1, 2]);
});

test('lost copies: the end of a server that nbdfuse started is proof for its commands, also for those lost later', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  lost.add(write(1, 0, 10), on(undefined, false, 1), 0);
  lost.add(write(2, 20, 10), on(new FakePeer(), false, 2), 0);
  lost.add(write(3, 40, 10), on(undefined, true, 3), 0);
  lost.serverEnded(2);
  expect(lost.changes.map(({ offsetLo }) => offsetLo)).toEqual([40]);
  lost.add(write(4, 60, 10), on(undefined, false, 2), 0);
  expect(lost.count).toBe(1);
  lost.serverEnded(3);
  expect(lost.any).toBe(false);
});

test('lost copies: time is proof only with --settle-time, and only after the end of the connection', () => {
  const lost = new LostCopies(500);
  const isRead = write(2, 20, 10);
  lost.add(write(1, 0, 10), on(undefined, false), 0);
  lost.add(isRead, on(undefined, true), 0);
  lost.look(499);
  expect(lost.count).toBe(2);
  lost.look(500);
  expect(lost.changes.map(({ offsetLo }) => offsetLo)).toEqual([20]);
  lost.closed(isRead, 600);
  lost.look(1099);
  expect(lost.count).toBe(1);
  lost.look(1100);
  expect(lost.any).toBe(false);
});

test('lost copies: a change that is lost repeatedly to one process needs one entry', () => {
  const lost = new LostCopies(Number.POSITIVE_INFINITY);
  const peer = new FakePeer();
  for (let i = 0; i < 100; i++) lost.add(write(1, 0, 10), on(peer, false), i);
  expect(lost.count).toBe(1);
  expect(everything(lost)).toBe(0);
  lost.clear();
  expect(peer.references).toBe(1);
});
