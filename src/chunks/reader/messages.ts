// The messages between the chunk server and its decode threads.

import type { Damage, MemberCheck, RestartPoint } from '../contract/coding.js';
import type { PackedCoding } from '../decode/decoder.js';

/** The data that a thread gets when it starts. */
export interface ThreadData {
  /** The file of liblzma that it uses; undefined: the system's. */
  readonly liblzma?: string | undefined;
}

/** To a thread. */
export type ToThread =
  | {
      readonly kind: 'open';
      readonly task: number;
      readonly coding: PackedCoding;
      /** The check of a member of a zip archive, for the pass. */
      readonly check?: MemberCheck | undefined;
      readonly from: RestartPoint;
      /** The first unit to send. */
      readonly first: number;
      /** The unit behind the last one to send. */
      readonly goal: number;
      /** The unit behind the last one of the chunk: the decoder looks for a check behind it. */
      readonly end: number;
      /** Bytes that may be decoded behind the chunk, for the check of its last unit: that unit may end in the next block. */
      readonly behind: number;
      readonly priority: number;
      /** Bytes of the image; undefined: not known yet, and the last unit may be shorter. */
      readonly size: number | undefined;
      /** Decoded bytes between two restart points; undefined: nobody needs any. */
      readonly spacing: number | undefined;
    }
  | { readonly kind: 'change'; readonly task: number; readonly goal: number; readonly priority: number }
  /** The next compressed bytes. */
  | { readonly kind: 'input'; readonly task: number; readonly bytes: Uint8Array; readonly isLast: boolean }
  | { readonly kind: 'close'; readonly task: number };

/** From a thread. */
export type FromThread =
  /** The next unit of a task. */
  | {
      readonly kind: 'unit';
      readonly task: number;
      /** A number: so many zeros. */
      readonly bytes: Uint8Array | number;
      /** Decoded bytes of the image that have passed the file's checks. */
      readonly verified: number;
      /** The offset of the next compressed byte that the decoder needs. */
      readonly wanted: number;
    }
  /** The decoder has used up its input. */
  | { readonly kind: 'hungry'; readonly task: number; readonly wanted: number }
  | { readonly kind: 'points'; readonly task: number; readonly points: readonly RestartPoint[] }
  /** The file has ended. */
  | {
      readonly kind: 'ended';
      readonly task: number;
      readonly out: number;
      readonly verified: number;
      readonly warning: string | undefined;
    }
  | {
      readonly kind: 'failed';
      readonly task: number;
      readonly message: string;
      readonly reason: Damage | undefined;
      readonly in: number;
      readonly out: number;
      /** The bytes of the next unit that come before the damage. */
      readonly partial: Uint8Array | undefined;
    };
