// Parks the first changes of a disk until there is a sample of the disk as it was before them.
//
// Owned by a Disk. Without it, a program that writes a small disk as a whole would leave no block by which to tell the
// disk from another one. The wait is as long as one READ, and there is only one for a disk.

import type { NbdCommand } from '../flight/nbd-command.js';
import type { Identity } from './identity.js';

/** The part of a disk that first samples use. */
export interface SampledDisk {
  readonly identity: Identity;
  readonly info: { readonly size: bigint };
  /** Errno of commands that would have to wait for a connection, or 0. */
  readonly failing: number;
  /** Reads the block at byte `offset` as a sample, and calls `ended`. */
  sampleBlock(offset: bigint): void;
  /** Sends changes that were parked. */
  sendParked(commands: readonly NbdCommand[]): void;
}

/** See the file's head. */
export class FirstSamples {
  /** Whether a change must ask `parks`. */
  isDue: boolean;
  readonly #disk: SampledDisk;
  #parked: NbdCommand[] = [];
  /** Number of blocks being read. */
  #reading = 0;

  constructor(disk: SampledDisk) {
    this.#disk = disk;
    this.isDue = disk.identity.outlivesChanges;
  }

  /** Whether a change must wait: then it is parked, and `sendParked` gets it. */
  parks(command: NbdCommand): boolean {
    const { identity, info } = this.#disk;
    const offsets = this.#reading > 0 || identity.samples.length > 0 ? [] : identity.candidates(info.size);
    this.isDue = this.#reading + offsets.length > 0;
    if (!this.isDue) return false;
    this.#parked.push(command);
    this.#reading += offsets.length;
    for (const offset of offsets) this.#disk.sampleBlock(offset);
    return true;
  }

  /** A block was read, or cannot be read. */
  ended(): void {
    const { identity, failing } = this.#disk;
    this.#reading--;
    // One block that tells is enough: another one may be on a slow part of the disk.
    if (this.#reading > 0 && !identity.samples.some(({ tells }) => tells)) return;
    // A lost server is no reason to do without: the next change tries again.
    if (failing !== 0 && identity.samples.length === 0) return;
    this.isDue = false;
    this.#disk.sendParked(this.take());
  }

  /** Takes the parked changes, as they fail. */
  take(): readonly NbdCommand[] {
    return this.#parked.splice(0);
  }
}
