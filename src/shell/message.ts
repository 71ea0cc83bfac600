// The message of an error for a user.

import { UsageError } from './arguments.js';

/** One line, not escaped. Errors of JavaScript's own kinds have their kind before the message. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isOwn = error instanceof UsageError || 'errno' in error || error.name === 'Error';
  return isOwn ? error.message : `${error.name}: ${error.message}`;
}
