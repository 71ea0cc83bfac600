// What a disk needs of the engine that it runs in.

import type { Connection } from '../connection/connection.js';
import type { Device } from '../device/device.js';
import type { FuseRequest } from '../flight/fuse-request.js';
import type { CommandTable, NbdCommand } from '../flight/nbd-command.js';
import type { SplicePipes } from '../flight/splice-pipe.js';
import type { BufferPool } from '../memory/buffer-pool.js';
import type { Disk } from './disk.js';

/** Implemented by the Engine; a disk knows nothing else of it. */
export interface DiskContext {
  readonly commands: CommandTable;
  readonly buffers: BufferPool;
  readonly device: Device;
  readonly splicePipes: SplicePipes;
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
  /** A command is over: `errno` is 0 or what its request shall fail with. */
  commandDone(command: NbdCommand, errno: number): void;
  /** Asks for the bytes of a command that the server found too long again, in pieces. */
  resubmit(command: NbdCommand, disk: Disk): void;
  /** Gives a command and its memory back. */
  retire(command: NbdCommand): void;
  /** Takes from a lost READ, FLUSH or BLOCK_STATUS the memory that its successor uses. */
  releaseBuffer(command: NbdCommand): void;
  /** One thing less that a request waits for. */
  settle(request: FuseRequest): void;
  /** The server has refused a command. */
  serverError(disk: Disk, command: NbdCommand, errno: number, text: string): void;
  connectionLost(disk: Disk, connection: Connection, why: string, breach: boolean): void;
  /** A connection leads to the same disk as ever. */
  connectionAccepted(disk: Disk, connection: Connection): void;
  /** Asks the server for a block by which the disk can be told from another. */
  sampleIdentity(disk: Disk): void;
  /** A connection that was given up is closed. */
  connectionClosed(connection: Connection): void;
  flushInTheBackground(disk: Disk): void;
  /** Something that a person should hear of. */
  warn(disk: Disk, text: string): void;
}
