// How a process learns that it is the one in the background of --daemon, and its exact command line.
//
// Used by main.ts and daemon.ts. A channel of Node alone shows nothing: a program may start nbdfuse by
// child_process.fork(). The order is a variable of the environment, since Node passes on words in UTF-8 only.

import { isUtf8Path } from '../linux/path-text.js';

const VARIABLE = 'NBDFUSE_DAEMON';

/** The words that are not UTF-8, by their indexes; as JSON, which has escapes for half of a surrogate pair. */
type Order = Readonly<Record<string, string>>;

/** The environment of the process in the background. */
export function orderFor(words: readonly string[]): Readonly<Record<string, string>> {
  const odd = words.flatMap((word, i) => (isUtf8Path(word) ? [] : [[i, word] as const]));
  const order: Order = Object.fromEntries(odd);
  return { [VARIABLE]: JSON.stringify(order) };
}

/** The command line of the process in the background; undefined in every other process. Servers do not inherit it. */
export function takeOrder(words: readonly string[]): readonly string[] | undefined {
  const text = process.env[VARIABLE];
  delete process.env[VARIABLE];
  if (text === undefined || process.send === undefined) return undefined;
  const order: Order = JSON.parse(text);
  return words.map((word, i) => order[i] ?? word);
}
