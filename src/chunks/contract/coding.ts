// How a file is compressed, and the decoders.

/** The coding of a file. `plain`: the file is the image. `deflate`: the raw data of a member of a zip archive. */
export type Coding = 'plain' | 'xz' | 'gzip' | 'deflate' | 'bzip2' | 'zstd' | 'lz4' | 'android-sparse';

/** A place of a compressed file where decoding can begin. */
export interface RestartPoint {
  /** Offset of the first compressed byte that the decoder needs. */
  readonly in: number;
  /** Offset of the first decoded byte. */
  readonly out: number;
  /** More that the decoder needs: bits of a byte, the last 32 KiB, the kind of check. At most 40 KiB. */
  readonly state?: Uint8Array;
}

/** The facts that a zip archive records of a file which it has compressed. */
export interface MemberCheck {
  /** The CRC-32 of the decoded bytes; two, where the two headers of the file differ, of which one is damaged. */
  readonly crcs: readonly number[];
  /** Decoded bytes, probably: the CRC decides. */
  readonly size: number;
}

/** Where an image begins. */
export const START: RestartPoint = { in: 0, out: 0 };

/** All of a compressed file, without its data. */
export interface PointIndex {
  /** Decoded bytes of the image. */
  readonly size: number;
  /** In rising order of both offsets; the first has `out` 0. Points of equal `out` do not occur. */
  readonly points: readonly RestartPoint[];
  /** A warning that the reference program would give, as of trailing garbage. */
  readonly warning?: string;
}

/** Why a file cannot be decoded. `misplaced`: a restart point is wrong, and so may be all later ones. */
export type Damage = 'damaged' | 'truncated' | 'unsupported' | 'memory' | 'misplaced';

/** A compressed file is not well formed, or needs what the library lacks. */
export class DecodeError extends Error {
  override name = 'DecodeError';
  readonly reason: Damage;
  /** Offset of the compressed byte at which the decoder stopped. */
  readonly in: number;
  /** Decoded bytes before the damage; of a wrong check, those before what it is about. */
  readonly out: number;

  constructor(message: string, reason: Damage, at: { readonly in: number; readonly out: number }) {
    super(message);
    this.reason = reason;
    this.in = at.in;
    this.out = at.out;
  }
}

/**
 * Decodes a file from a restart point to its end, as the reference program does: all members, streams and frames, with
 * padding and what it ignores at the end. It lives in one thread, and blocks it while it decodes.
 */
export interface Decoder {
  /** Offset of the compressed byte that the next `push` must begin with. */
  readonly wanted: number;
  /** Offset of the next decoded byte. */
  readonly out: number;
  /** Decoded bytes before this offset have passed the file's own check, or have none. */
  readonly verified: number;
  /** Whether all of the file has been decoded, and `pull` will return 0. */
  readonly ended: boolean;
  /** The warning that the reference program would give; known at the end. */
  readonly warning: string | undefined;
  /**
   * Gives the next compressed bytes, which the decoder keeps until it has decoded them.
   * @param isLast whether the file ends with them; they may be empty then
   */
  push(bytes: Uint8Array, isLast: boolean): void;
  /**
   * Decodes into `output`, which begins with the byte at `out`.
   * @returns the bytes written; fewer than its length: the decoder needs input, or has ended
   * @throws DecodeError; all bytes before the damage have been written by earlier calls
   */
  pull(output: Uint8Array): number;
  /** The restart points that decoding has passed since the last call, at least `spacing` decoded bytes apart. */
  takePoints(): readonly RestartPoint[];
  /** Frees the memory outside JavaScript. */
  close(): void;
}

/** Bytes of the file that an image is decoded from. */
export interface Input {
  /** Bytes of the file. */
  readonly size: number;
  /** How many reads at the same time are faster than fewer. */
  readonly parallel: number;
  /**
   * Reads exactly `length` bytes, at most MAX_READ.
   * @throws Error with a property `errno` (positive)
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Maximum bytes of one read of an input. */
export const MAX_READ = 4 * 1024 * 1024;
