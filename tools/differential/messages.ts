// The messages between the stage and its actors.

import type { Range } from './operations.js';
import type { Plan } from './plan.js';

/** Each is answered before the next is sent. */
export type ToActor =
  | {
      readonly kind: 'start';
      readonly plan: Plan;
      /** Which of the actors, from 0. */
      readonly index: number;
      readonly area: Range;
      /** The file under test, the plain file, and the file for the log. */
      readonly subject: string;
      readonly reference: string;
      readonly log: string;
    }
  /** Plays the next operations; with `kept`, those of these numbers alone. */
  | { readonly kind: 'play'; readonly count: number; readonly kept?: readonly number[] }
  /** Reads everything. */
  | { readonly kind: 'compare' }
  /** Closes all files, until the next of the others. */
  | { readonly kind: 'close' };

export type FromActor = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly why: string };
