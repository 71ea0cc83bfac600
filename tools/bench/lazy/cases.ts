// The cases of lazy images, and their measurement.

import { BOOT_CASE } from './boot-case.js';
import { COMPRESSED_CASES } from './compressed-cases.js';
import type { LazyCase } from './lazy-case.js';
import { PASSTHROUGH_CASE } from './passthrough-case.js';
import { UNUSED_CASE } from './unused-case.js';
import { WALK_CASE } from './walk-case.js';

/** In the order of the table. */
export const LAZY_CASES: readonly LazyCase[] = [
  ...COMPRESSED_CASES,
  WALK_CASE,
  BOOT_CASE,
  PASSTHROUGH_CASE,
  UNUSED_CASE,
];
