// The names that code in the shell can use besides JavaScript's own.
//
// Used by evaluate.ts and interactive.ts. `h` is the connected client, undefined without a URI.

import { inspect } from 'node:util';
import { connectMany, NbdClient } from '../client/client.js';
import { listExports, listMetaContexts } from '../client/lists.js';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from '../nbd/constants.js';
import { NbdError, NbdProtocolError, NbdServerError } from '../nbd/errors.js';
import { parseNbdUri } from '../nbd/uri/uri.js';

/** Names and what they stand for. */
export type ShellScope = Readonly<Record<string, unknown>>;

/** A value as `print` shows it: text as it is, whole numbers as digits, the rest as Node shows it. */
function shown(value: unknown): string {
  return typeof value === 'string' || typeof value === 'bigint' ? String(value) : inspect(value);
}

/** The names, with a `print` that writes lines by `write`. */
export function createScope(h: NbdClient | undefined, write: (text: string) => void): ShellScope {
  const print = (...values: readonly unknown[]): void => write(`${values.map(shown).join(' ')}\n`);
  return {
    h,
    print,
    NbdClient,
    connectMany,
    listExports,
    listMetaContexts,
    parseNbdUri,
    NbdError,
    NbdProtocolError,
    NbdServerError,
    NBD_STATE_HOLE,
    NBD_STATE_ZERO,
  };
}
