// A file in an archive.

/** A file in an archive. */
export interface Member {
  readonly name: string;
  /** Where its bytes begin in the archive. */
  readonly offset: bigint;
  readonly size: bigint;
  /** Why its bytes are no range of the archive. */
  readonly problem: 'compressed' | 'encrypted' | 'sparse' | undefined;
}
