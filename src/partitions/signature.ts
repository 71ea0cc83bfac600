// Magic bytes by which programs know the contents of a file or disk. Pure.

/** Bytes at a place. */
export interface Signature {
  readonly offset: number;
  /** One character for each byte (latin1). */
  readonly bytes: string;
}

/** The first of these signatures that the beginning of a file or disk has. */
export function findSignature<T extends Signature>(signatures: readonly T[], head: Buffer): T | undefined {
  return signatures.find(
    ({ offset, bytes }) => head.toString('latin1', offset, offset + bytes.length) === bytes,
  );
}
