// A replay: its parts, and the FLUSH after each.

import { expect, test } from 'vitest';
import {
  NBD_CMD_FLUSH,
  NBD_CMD_WRITE_ZEROES,
  NBD_EIO,
  NBD_ESHUTDOWN,
} from '../../../../src/nbd/constants.js';
import type { Connection } from '../../../../src/worker/connection/connection.js';
import { UnflushedWrites } from '../../../../src/worker/disk/changes.js';
import { Replay } from '../../../../src/worker/disk/replay.js';
import { CommandTable, type NbdCommand } from '../../../../src/worker/flight/nbd-command.js';

const BLOCK = 4096;

/** A disk with `count` unflushed writes, and its replay, whose commands the test answers itself. */
class Fixture {
  readonly context = { commands: new CommandTable() };
  readonly unflushed = new UnflushedWrites(1 << 30, {
    retire: (command) => this.context.commands.release(command),
    releaseBuffer: () => undefined,
  });
  readonly sent: NbdCommand[] = [];
  readonly losses: string[] = [];
  readonly givenUp: string[] = [];
  readonly replay: Replay;

  constructor(count: number) {
    for (let i = 0; i < count; i++) {
      const command = this.context.commands.take();
      command.type = NBD_CMD_WRITE_ZEROES;
      command.setPlace(0, i * BLOCK, BLOCK);
      this.unflushed.keep(command);
    }
    const connection = { end: ({ why }: { why: string }) => this.givenUp.push(why) } as unknown as Connection;
    this.replay = new Replay(this, connection, () => this.replay.advance());
    this.replay.advance();
  }

  assign(command: NbdCommand): void {
    this.sent.push(command);
  }

  lose(why: string): void {
    this.losses.push(why);
  }

  /**
   * Answers the writes in flight and the following ones, up to a FLUSH; undefined: the replay is finished.
   */
  answerWrites(): NbdCommand | undefined {
    for (;;) {
      const commands = this.sent.splice(0);
      if (commands.length === 0) return undefined;
      for (const command of commands) {
        if (command.type === NBD_CMD_FLUSH) return command;
        command.keep();
        this.replay.advance();
      }
    }
  }
}

test('a replay forgets what the FLUSH after each part covers, and nothing more', () => {
  const disk = new Fixture(300);
  const flush = disk.answerWrites();
  expect(disk.unflushed.list()).toHaveLength(300);
  if (flush !== undefined) disk.replay.answered(flush, 0);
  expect(disk.unflushed.list()).toHaveLength(300 - 256);
  expect(disk.answerWrites()).toBeUndefined();
  expect(disk.replay.finished).toBe(true);
  expect(disk.unflushed.list()).toHaveLength(300 - 256);
  expect(disk.losses).toEqual([]);
});

test('a replay reports a FLUSH that fails: the server may not report it a second time', () => {
  const disk = new Fixture(300);
  const flush = disk.answerWrites();
  if (flush !== undefined) disk.replay.answered(flush, NBD_EIO);
  expect(disk.losses).toHaveLength(1);
  expect(disk.answerWrites()).toBeUndefined();
  expect(disk.replay.finished).toBe(true);
  expect(disk.unflushed.list()).toHaveLength(300);
});

test('a replay gives its connection up when the server is shutting down, and reports no loss', () => {
  const disk = new Fixture(300);
  const flush = disk.answerWrites();
  if (flush !== undefined) disk.replay.answered(flush, NBD_ESHUTDOWN);
  expect(disk.givenUp).toHaveLength(1);
  expect(disk.sent).toEqual([]);
  expect(disk.losses).toEqual([]);
  expect(disk.unflushed.list()).toHaveLength(300);
});
