// The messages between the stage and its actors.

import type { Range } from './operations.js';
import type { Plan } from './plan.js';

/** Each message has its answer before the next one is sent. */
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
  /** Plays the next operations; with `kept`, only those with these numbers. */
  | { readonly kind: 'play'; readonly count: number; readonly kept?: readonly number[] }
  /** Reads everything. */
  | { readonly kind: 'compare' }
  /** Closes all files, until the next message of another kind. */
  | { readonly kind: 'close' };

export type FromActor = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly why: string };
