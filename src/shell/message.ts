// What to tell a user of an error.
//
// Used by main.ts and interactive.ts.

import { UsageError } from './arguments.js';

/** One line, not escaped; for an error of JavaScript's own kinds with its kind. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isOwn = error instanceof UsageError || 'errno' in error || error.name === 'Error';
  return isOwn ? error.message : `${error.name}: ${error.message}`;
}
