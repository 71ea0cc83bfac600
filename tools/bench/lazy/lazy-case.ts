// The contract of a case of lazy images.

import type { Scope } from '../../../test/support/run/scope.js';
import type { Side } from '../sides.js';
import type { ImageFolder } from './images.js';
import type { LazyRow } from './table.js';

/** Common to all cases of a run. */
export interface LazyField {
  readonly ours: Side;
  /** An nbdfuse of before, if one was named. */
  readonly before: Side | undefined;
  readonly images: ImageFolder;
  /** Size of the compressed images, decoded. */
  readonly mebibytes: number;
  readonly rounds: number;
}

/** A measurement that gives some lines of the table. */
export interface LazyCase {
  readonly name: string;
  readonly text: string;
  measure(scope: Scope, field: LazyField): Promise<readonly LazyRow[]>;
}
