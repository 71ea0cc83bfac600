// Passthrough: the kernel reads the only file of a mount without nbdfuse, from a local file with the same bytes.
//
// Owned by the worker; the dispatcher asks it at FUSE_INIT, and Metadata at each OPEN. The kernel refuses an OPEN for
// passthrough while the inode has handles of another kind, and the other way round: see
// docs/internals/decisions/0033-passthrough.md. So the first handle for passthrough waits until no other is open, and
// from then on every handle is one.

import { FOPEN_DIRECT_IO, FOPEN_PASSTHROUGH, FUSE_PASSTHROUGH_2 } from '../../fuse/constants.js';
import type { LocalCopy } from '../contract/messages.js';
import type { PassthroughStatus } from '../contract/status.js';
import type { Device } from '../device/device.js';
import type { Disk } from '../disk/disk.js';

const NO_KERNEL = 'the kernel has no FUSE passthrough, which begins with Linux 6.9';
const NO_COPY = 'the cache file is not complete';
const OPEN_BEFORE = 'a program opened the file before the cache file was complete, and has it open';

/** The meaning of errnos of FUSE_DEV_IOC_BACKING_OPEN. */
const REFUSALS: Readonly<Record<string, string>> = {
  EPERM: 'the kernel does not permit it (EPERM)',
  EOPNOTSUPP: 'the file system of the cache file cannot do it (EOPNOTSUPP)',
  ELOOP: 'the cache file lies on a file system that lies on another one, as overlayfs does (ELOOP)',
};

/** The part of a reply to OPEN that is for passthrough. */
export interface PassthroughOpen {
  readonly flags: number;
  /** The kernel's id of the local file. */
  readonly backing: number;
}

/** See the file's head. */
export class Passthrough {
  readonly #device: Device;
  readonly #say: (text: string) => void;
  /** Why it is not possible, whatever file comes. */
  #objection: string | undefined;
  /** Why the kernel does not read the last file that came. */
  #refusal = NO_COPY;
  /** The kernel's id of the local file; 0: none. */
  #backing = 0;
  /** Whether O_DIRECT reads the local file. */
  #direct = false;
  /** Whether a handle for passthrough was opened. */
  #begun = false;
  /** Whether handles of another kind were open when the file came, and --verbose does not know of their end. */
  #waits = false;

  /**
   * @param objection why it is not possible; undefined if nothing is known yet
   * @param say takes lines for --verbose
   */
  constructor(device: Device, objection: string | undefined, say: (text: string) => void) {
    this.#device = device;
    this.#objection = objection;
    this.#say = say;
  }

  /** Whether to request the feature in the reply to a FUSE_INIT. @param flags2 its second word of flags */
  isWanted(flags2: number): boolean {
    if ((flags2 & FUSE_PASSTHROUGH_2) === 0) this.#objection ??= NO_KERNEL;
    if (this.#objection !== undefined) this.#say(`passthrough: no: ${this.#objection}`);
    return this.#objection === undefined;
  }

  /** Takes the local file of a disk. Returns why the kernel does not read it, or an empty text. */
  use(copy: LocalCopy, disk: Disk | undefined): string {
    if (this.#backing !== 0) return '';
    this.#refusal = this.#objection ?? this.#open(copy);
    this.#waits = disk !== undefined && disk.opens > 0;
    if (this.#refusal !== '') this.#say(`passthrough: no: ${this.#refusal}`);
    else this.#say(this.#waits ? `passthrough: not yet: ${OPEN_BEFORE}` : 'passthrough: yes');
    return this.#refusal;
  }

  /** The reply to an OPEN; undefined: the usual one. @param direct whether open(2) has O_DIRECT */
  open(disk: Disk, direct: boolean): PassthroughOpen | undefined {
    if (this.#backing === 0 || (!this.#begun && disk.opens > 0)) return undefined;
    this.#begun = true;
    if (this.#waits) this.#say('passthrough: yes');
    this.#waits = false;
    // With both flags the kernel sends READs as before.
    const flags = direct && !this.#direct ? FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO : FOPEN_PASSTHROUGH;
    return { flags, backing: this.#backing };
  }

  status(disk: Disk): PassthroughStatus {
    if (this.#backing === 0) return { active: false, why: this.#objection ?? this.#refusal };
    return this.#begun || disk.opens === 0 ? { active: true } : { active: false, why: OPEN_BEFORE };
  }

  /** Gives the local file back. The handles that are open keep it. */
  close(): void {
    if (this.#backing !== 0) this.#device.closeBacking(this.#backing);
    this.#backing = 0;
  }

  /** Returns why the kernel does not take it, or an empty text. */
  #open(copy: LocalCopy): string {
    if ('why' in copy) return copy.why;
    const opened = this.#device.openBacking(copy.descriptor);
    if (typeof opened === 'string') return REFUSALS[opened] ?? opened;
    this.#backing = opened;
    this.#direct = copy.direct;
    return '';
  }
}
