// Parses `nbdfuse cache list|verify|prune|export`. Pure.
//
// Called by arguments.ts. A mountpoint called `cache` stays possible as ./cache, and as `cache` before any other word.

import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';
import { byteCount, superfluousValue } from './values.js';

const ACTIONS = ['list', 'verify', 'prune', 'export'] as const;
type Action = (typeof ACTIONS)[number];

/** An option of an action. */
export interface CacheOption {
  readonly name: string;
  readonly description: string;
  readonly takesValue: boolean;
}

/** The words after `cache` that name an action, and their options. */
export const CACHE_ACTIONS: Readonly<Record<Action, readonly CacheOption[]>> = {
  list: [{ name: '--json', description: 'print an array of JSON', takesValue: false }],
  verify: [],
  prune: [{ name: '--cache-size', description: 'keep at most SIZE bytes', takesValue: true }],
  export: [{ name: '--partial', description: 'write zeros for missing bytes', takesValue: false }],
};

/** A request about cache files. */
export interface CacheRequest {
  readonly action: Action;
  /** Files and directories; for `export`: FILE and OUT. */
  readonly paths: readonly string[];
  readonly json: boolean;
  readonly partial: boolean;
  /** Bytes. */
  readonly cacheSize: number | undefined;
}

const USAGE: Readonly<Record<Action, string>> = {
  list: 'nbdfuse cache list [--json] [DIR|FILE ...]',
  verify: 'nbdfuse cache verify FILE',
  prune: 'nbdfuse cache prune [--cache-size=SIZE] FILE|DIR',
  export: 'nbdfuse cache export [--partial] FILE OUT',
};

/** The request of a command line that begins with `cache` and an action; undefined: another one. @throws UsageError */
export function cacheRequestFrom(words: readonly string[]): CacheRequest | undefined {
  const action = ACTIONS.find((one) => one === words[1]);
  if (words[0] !== 'cache' || action === undefined) return undefined;
  const paths: string[] = [];
  const given = new Map<string, string>();
  const rest = words.slice(2);
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') paths.push(...rest.splice(0));
    else if (!word.startsWith('-') || word === '-') paths.push(word);
    else {
      const [name] = word.split('=', 1);
      const option = CACHE_ACTIONS[action].find((one) => one.name === name);
      if (option === undefined)
        throw new UsageError(`cache ${action} has no option ${printable(name)}: ${USAGE[action]}`);
      const value = word === name ? undefined : word.slice(name.length + 1);
      if (value !== undefined && !option.takesValue) throw superfluousValue(name);
      given.set(name, option.takesValue ? (value ?? rest.shift() ?? '') : '');
    }
  }
  const [least, most] =
    action === 'list' ? [0, Number.POSITIVE_INFINITY] : action === 'export' ? [2, 2] : [1, 1];
  if (paths.length < least || paths.length > most || paths.includes(''))
    throw new UsageError(`cache ${action} needs other arguments: ${USAGE[action]}`);
  const size = given.get('--cache-size');
  return {
    action,
    paths,
    json: given.has('--json'),
    partial: given.has('--partial'),
    cacheSize: size === undefined ? undefined : byteCount('--cache-size', size, 0),
  };
}
