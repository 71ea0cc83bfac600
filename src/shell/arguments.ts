// Parses the command line of nbdsh. Pure.

import { parseArgs } from 'node:util';
import { printable } from '../nbd/text.js';

/** A parsed command line. */
export interface ShellRequest {
  readonly kind: 'help' | 'version' | 'run';
  /** The server to connect to as `h`; undefined: none. */
  readonly uri: string | undefined;
  /** Code to run, in order; `-` is standard input. Empty: interactive, or run standard input. */
  readonly commands: readonly string[];
}

/** An error in the command line; the message is one line. */
export class UsageError extends Error {
  override name = 'UsageError';
}

export const HELP = `Run JavaScript against an NBD server.

Usage:
    nbdsh [-u URI]
    nbdsh [-u URI] -c CODE [-c CODE ...]

The server is h, an NbdClient: see nbdfuse-library(3). Without -c, nbdsh prompts for code, or runs
the script on standard input. Code may use await and print(value, ...). It can open more clients
with NbdClient.connect(address).

Options:
    -u, --uri URI       connect to this server as h
    -c, --command CODE  run CODE and exit; - reads the code from standard input
    -h, --help          show this help
    -V, --version       show the version

Examples:
    nbdsh -u nbd://localhost/disk
    nbdsh -u nbd://localhost/disk -c 'print(h.size)'
    nbdsh -u nbd://localhost/disk -c 'print(await h.read(0, 512))'
`;

const OPTIONS = {
  command: { type: 'string', short: 'c', multiple: true },
  uri: { type: 'string', short: 'u' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

/** The message of a node:util error, without its advice for programmers. */
function firstSentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printable(text.split(/\.(?:\s|$)|\n/)[0] ?? text);
}

/** Parses `words`, the command line without the program. @throws UsageError */
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
