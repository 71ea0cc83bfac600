// The names that code in the shell can use besides JavaScript's own. `h` is the connected client.

import { inspect } from 'node:util';
import { connectMany, NbdClient } from '../client/client.js';
import { listExports, listMetaContexts } from '../client/lists.js';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from '../nbd/constants.js';
import { NbdError, NbdProtocolError, NbdServerError } from '../nbd/errors.js';
import { parseNbdUri } from '../nbd/uri/uri.js';

/** Names and their values. */
export type ShellScope = Readonly<Record<string, unknown>>;

/** A value as `print` shows it: text as it is, bigints as digits, other values as Node shows them. */
function shown(value: unknown): string {
  return typeof value === 'string' || typeof value === 'bigint' ? String(value) : inspect(value);
}

/** Makes the names. @param h undefined without a URI @param write output of `print` */
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
