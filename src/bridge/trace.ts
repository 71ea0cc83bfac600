// The trace of --verbose: one line a request of the kernel and one a command, with the specs' names.
//
// Written by the worker straight to descriptor 2, since its thread has no event loop.

import { opcodeName } from '../fuse/constants.js';
import { commandName } from '../nbd/names.js';
import { printable } from '../nbd/text.js';
import { errnoName } from '../os/errno.js';
import { addressOf, libc } from '../os/libc.js';
import type { Command } from './command.js';
import type { Disk } from './disk.js';
import { join } from './offsets.js';
import type { Operation } from './operation.js';

const STDERR = 2;

function microseconds(since: number, now: number): string {
  return `${Math.max(0, Math.round((now - since) * 1000))} us`;
}

/** Writes lines; one instance a worker. */
export class Trace {
  /** A request of the kernel that was answered at once. */
  request(opcode: number, nodeid: number, result: string): void {
    this.line(`${opcodeName(opcode)} node ${nodeid}: ${result}`);
  }

  /** A request of the kernel that needed the server, answered. */
  answer(operation: Operation, error: number, now: number): void {
    const where = `offset ${join(operation.offsetHi, operation.offsetLo)} length ${operation.length}`;
    const result = error === 0 ? 'ok' : errnoName(error);
    this.line(
      `${opcodeName(operation.opcode)} ${where}: ${result} ${microseconds(operation.startedAt, now)}`,
    );
  }

  /** A command that is over. */
  command(command: Command, error: number, now: number): void {
    const where = `offset ${join(command.offsetHi, command.offsetLo)} length ${command.length}`;
    const flags = command.flags === 0 ? '' : ` flags ${command.flags}`;
    const result = error === 0 ? 'ok' : errnoName(error);
    const connection = command.connection === undefined ? '' : ` connection ${command.connection.number}`;
    const took = microseconds(command.submittedAt, now);
    this.line(`${commandName(command.type)} ${where}${flags}${connection}: ${result} ${took}`);
  }

  /** What a server said of a command that it refused. */
  serverError(disk: Disk, command: Command, error: number, text: string): void {
    if (text === '') return;
    const file = disk.node.name || 'the file';
    this.line(
      `${commandName(command.type)} of ${file}: ${errnoName(error)}, the server says "${printable(text)}"`,
    );
  }

  /** Any line. */
  line(text: string): void {
    const bytes = Buffer.from(`nbdfuse: ${text}\n`);
    libc.write(STDERR, addressOf(bytes), bytes.length);
  }
}
