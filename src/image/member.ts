// A file in an archive.

import type { Coding, MemberCheck } from '../chunks/contract/coding.js';

/** A file in an archive. */
export interface Member {
  readonly name: string;
  /** Where its bytes begin in the archive. */
  readonly offset: bigint;
  /** Bytes of it in the archive. */
  readonly size: bigint;
  /** How the archive has compressed it; undefined: not at all. */
  readonly coding?: Exclude<Coding, 'plain'> | undefined;
  /** The facts that the archive records of its decoded bytes, if the archive has compressed it. */
  readonly check?: MemberCheck | undefined;
  /** Why its bytes are no range of the archive. */
  readonly problem: 'compressed' | 'encrypted' | 'sparse' | undefined;
  /** The program that unpacks it, where the usual one of the archive does not. */
  readonly unpackedBy?: string | undefined;
}
