// The names of Linux error numbers.

import { constants } from 'node:os';
import { ESHUTDOWN } from './errno.js';

/** Second names of the same numbers, which messages never use. */
const ALIASES: readonly string[] = ['EWOULDBLOCK', 'ENOTSUP'];

const NAMES = new Map([
  [ESHUTDOWN, 'ESHUTDOWN'],
  ...Object.entries(constants.errno)
    .filter(([name]) => !ALIASES.includes(name))
    .map(([name, number]): [number, string] => [number, name]),
]);

/** The symbolic name of an errno, such as `EIO`. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}
