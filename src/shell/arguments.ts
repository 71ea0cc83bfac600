// The command line of nbdsh, understood: words in, a typed request out. Pure.
//
// Called by main.ts.

import { parseArgs } from 'node:util';
import { printable } from '../nbd/text.js';

/** What the command line asks for. */
export interface ShellRequest {
  readonly kind: 'help' | 'version' | 'run';
  /** What to connect to as `h`; undefined: nothing. */
  readonly uri: string | undefined;
  /** Code to run, in this order; `-` stands for standard input. None: ask the user, or run standard input. */
  readonly commands: readonly string[];
}

/** The command line was not understood; the message is one line. */
export class UsageError extends Error {
  override name = 'UsageError';
}

export const HELP = `Talk to an NBD server in JavaScript:

    nbdsh [-u URI]
    nbdsh [-u URI] -c CODE [-c CODE ...]

The server is h, an NbdClient (see docs/library.md). Code may use await and
print(value, ...), and makes further clients by NbdClient.connect(address).

Options:

    -c, --command <code>  run code and end; - reads it from standard input
    -u, --uri <uri>       connect to this server, as h
    -h, --help            show this help
    -V, --version         show the version
`;

const OPTIONS = {
  command: { type: 'string', short: 'c', multiple: true },
  uri: { type: 'string', short: 'u' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

/** What node:util says of a mistake, without its advice for programmers. */
function firstSentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printable(text.split(/\.(?:\s|$)|\n/)[0] ?? text);
}

/** What `words` (the command line without the program) ask for. @throws UsageError */
export function parseShellArguments(words: readonly string[]): ShellRequest {
  try {
    const { values } = parseArgs({ args: [...words], options: OPTIONS });
    const { uri, command: commands = [] } = values;
    const kind = values.help === true ? 'help' : values.version === true ? 'version' : 'run';
    return { kind, uri, commands };
  } catch (error) {
    throw new UsageError(`${firstSentence(error)}; see nbdsh --help`);
  }
}
