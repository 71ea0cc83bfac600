// What a disk needs of the engine that it runs in.

import type { Connection } from '../connection/connection.js';
import type { Device } from '../device/device.js';
import type { Operation } from '../flight/fuse-request.js';
import type { Command, CommandTable } from '../flight/nbd-command.js';
import type { SpliceLanes } from '../flight/splice-pipe.js';
import type { Blocks } from '../memory/buffer-pool.js';
import type { Disk } from './disk.js';

/** Implemented by the Engine; a disk knows nothing else of it. */
export interface DiskContext {
  readonly commands: CommandTable;
  readonly blocks: Blocks;
  readonly device: Device;
  readonly lanes: SpliceLanes;
  /** Bytes of writes to remember until a FLUSH covers them; 0 for none. */
  readonly keepBytes: number;
  /** Bytes that one command's payload can have here. */
  readonly largestPayload: number;
  /** Whether what block status told may be believed later, too (nobody else writes to the export). */
  readonly keepExtents: boolean;
  /** Errno by which an application hears that something acknowledged was lost. */
  readonly lossErrno: number;
  /** Milliseconds: see LostCopies. */
  readonly settleTime: number;
  /** Milliseconds, at the beginning of this turn of the loop. */
  now(): number;
  /** A command is over: `errno` is 0 or what its operation shall fail with. */
  commandDone(command: Command, errno: number): void;
  /** Asks for the bytes of a command that the server found too long again, in pieces. */
  resubmit(command: Command, disk: Disk): void;
  /** Gives a command and its memory back. */
  retire(command: Command): void;
  /** Takes from a lost READ, FLUSH or BLOCK_STATUS the memory that its successor uses. */
  makeIdle(command: Command): void;
  /** One thing less that an operation waits for. */
  settle(operation: Operation): void;
  /** The server has refused a command. */
  serverError(disk: Disk, command: Command, errno: number, text: string): void;
  connectionLost(disk: Disk, connection: Connection, why: string, breach: boolean): void;
  /** A connection leads to the same disk as ever. */
  connectionAccepted(disk: Disk, connection: Connection): void;
  /** Asks the server for a block by which the disk can be told from another. */
  lookAtIdentity(disk: Disk): void;
  /** A connection that was given up is closed. */
  connectionClosed(connection: Connection): void;
  flushInTheBackground(disk: Disk): void;
  /** Something that a person should hear of. */
  warn(disk: Disk, text: string): void;
}
