// The error of a target when the code under test breaks a promise, and the promises of all errors.

import { NbdError } from '../../src/nbd/errors.js';

/** A broken promise. The fuzzer saves the test case and ends with status 77. */
export class Finding extends Error {
  override name = 'Finding';
}

/** Throws a Finding unless `kept`. */
export function promise(kept: boolean, what: string): asserts kept {
  if (!kept) throw new Finding(what);
}

/** Characters of a message at most: a server's 4096 bytes, every one of them escaped, and our own words. */
const LONGEST_MESSAGE = 4096 * 4 + 1000;

/**
 * Accepts an error that a peer may cause: an NbdError whose message is one printable line. Throws any other
 * error again.
 */
export function expectedError(error: unknown): NbdError {
  if (!(error instanceof NbdError)) throw error;
  promise(
    !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(error.message),
    `a message is no printable line: ${JSON.stringify(error.message)}`,
  );
  promise(error.message.length <= LONGEST_MESSAGE, `a message has ${error.message.length} characters`);
  return error;
}
