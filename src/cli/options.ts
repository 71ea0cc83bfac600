// The options as commander's Option objects: the one list for parsing, --help, --long-options and --short-options.
//
// Long names may be shortened, as with getopt_long(3). A prefix is looked up among the names that the C nbdfuse has
// too, then among all names, so that command lines of the C nbdfuse keep their meaning.

import { Option } from 'commander';
import { printable } from '../nbd/text.js';
import { UsageError } from './errors.js';
import { FORMAT_CHOICES, formatWish } from './format-word.js';
import { choice, milliseconds, millisecondsOr, wholeNumber } from './values.js';

const MAXIMUM_CONNECTIONS = 1024;
const MAXIMUM_THREADS = 64;
const MAXIMUM_PARTITION = 1024;
const CACHE_MODES = ['writeback', 'writethrough', 'none'] as const;
const BACKENDS = ['kernel', 'fuse-native'] as const;
const LOG_FORMATS = ['text', 'json'] as const;
const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** The values of the options that accept a fixed set. */
export const CHOICES: Readonly<Record<string, readonly string[]>> = {
  '--cache': CACHE_MODES,
  '--fuse-backend': BACKENDS,
  '--completion': SHELLS,
  '--log-format': LOG_FORMATS,
  '--format': FORMAT_CHOICES,
};

/** Long names that the C nbdfuse has. */
const PEER_NAMES = [
  '--fuse-help',
  '--help',
  '--long-options',
  '--connections',
  '--pidfile',
  '--pid-file',
  '--readonly',
  '--read-only',
  '--short-options',
  '--verbose',
  '--version',
];

/** An option that may have aliases, and whose long names may be shortened. */
export class NamedOption extends Option {
  /** All names, the ones with one dash first. */
  readonly names: readonly string[];

  /** @param aliases names besides those in `flags` */
  constructor(flags: string, description: string, aliases: readonly string[] = []) {
    super(flags, description);
    const own = [this.short, this.long].filter((name) => name !== undefined && name !== null);
    this.names = [...new Set([...own, ...aliases])].sort((a, b) => dashes(a) - dashes(b));
  }

  /** Whether a word of the command line names this option; called by commander. */
  is(word: string): boolean {
    return this.names.includes(completeName(word));
  }
}

function dashes(name: string): number {
  return name.startsWith('--') ? 2 : 1;
}

/** In the order of --help. */
export const OPTIONS: readonly NamedOption[] = [
  new NamedOption('-C, --connections <n>', 'connections, where the server allows several')
    .default(4)
    .argParser((text: string) => wholeNumber('--connections', text, 1, MAXIMUM_CONNECTIONS)),
  new NamedOption('-f, --foreground', 'stay in the foreground, as without it'),
  new NamedOption('--daemon', 'return when the file is ready, and serve it in the background'),
  new NamedOption('-o <options>', 'options of the mount, see --fuse-help')
    .default([])
    .argParser((text: string, previous: readonly string[]) => [...previous, text]),
  new NamedOption('-P, --pidfile <file>', 'write the process number there when ready', ['--pid-file']),
  new NamedOption('-r, --readonly', 'refuse writes', ['--read-only']),
  new NamedOption('-s', 'one thread, as --threads=1'),
  new NamedOption('--threads <n>', 'threads at most; by itself, what the machine is good for').argParser(
    (text: string) => wholeNumber('--threads', text, 1, MAXIMUM_THREADS),
  ),
  new NamedOption('-v, --verbose', 'tell on standard error what happens', ['-d']),
  new NamedOption('--log-format <format>', 'of what is told: text or json')
    .default('text')
    .argParser((text: string) => choice('--log-format', text, LOG_FORMATS)),
  new NamedOption('--export <name>', 'export to ask for, in the modes without a URI'),
  new NamedOption('--format <format>', 'what the image is, when its name and content do not tell').argParser(
    (text: string) => formatWish(text),
  ),
  new NamedOption('--partition <n>', 'one partition of the image').argParser((text: string) =>
    wholeNumber('--partition', text, 1, MAXIMUM_PARTITION),
  ),
  new NamedOption('--snapshot-name <name>', 'an internal snapshot of a qcow2, read-only'),
  new NamedOption('--overlay [file]', 'write to a throw-away qcow2, or FILE, instead of the image'),
  new NamedOption('--print-command', 'print the command line that does without images, and end'),
  new NamedOption('--all', 'every export is a file in the directory MOUNTPOINT'),
  new NamedOption('--cache <mode>', 'writeback, writethrough or none')
    .default('writeback')
    .argParser((text: string) => choice('--cache', text, CACHE_MODES)),
  new NamedOption('--reconnect <seconds>', 'how long to wait for a lost server, or forever')
    .default(60_000, '60')
    .argParser((text: string) => millisecondsOr('--reconnect', 'forever', text)),
  new NamedOption('--restart', 'start CMD again when it is lost'),
  new NamedOption('--timeout <seconds>', 'count a connection that stands still as lost')
    .default(0)
    .argParser((text: string) => milliseconds('--timeout', text)),
  new NamedOption('--settle-time <seconds>', 'time until a lost connection has no effect')
    .default(Number.POSITIVE_INFINITY, 'never')
    .argParser((text: string) => millisecondsOr('--settle-time', 'never', text)),
  new NamedOption('--fuse-backend <backend>', 'kernel or fuse-native')
    .default('kernel')
    .argParser((text: string) => choice('--fuse-backend', text, BACKENDS)),
  new NamedOption('--list', 'show the exports of the server, without MOUNTPOINT'),
  new NamedOption('--status', 'show what is mounted at MOUNTPOINT and what was done for it'),
  new NamedOption('--watch', 'with --status: every second, what is going on'),
  new NamedOption('--json', 'with --list and --status: as JSON'),
  new NamedOption('--completion <shell>', 'print the completion for bash, zsh or fish').argParser(
    (text: string) => choice('--completion', text, SHELLS),
  ),
  new NamedOption('--unmount', 'unmount MOUNTPOINT, and wait until everything is written'),
  new NamedOption('--fuse-help', 'show what -o takes'),
  new NamedOption('--help', 'show this help'),
  new NamedOption('--long-options', 'list the long options'),
  new NamedOption('--short-options', 'list the short options'),
  new NamedOption('-V, --version', 'show the version'),
];

const ALL_NAMES = OPTIONS.flatMap((option) => option.names);

/** The option that a word names; undefined for every other word. @throws UsageError when it is ambiguous */
export function optionOf(word: string): NamedOption | undefined {
  return OPTIONS.find((option) => option.is(word));
}

/** The options that a shortened name can mean among `names`. */
function completions(prefix: string, names: readonly string[]): readonly NamedOption[] {
  const matching = names.filter((name) => name.startsWith(prefix));
  return OPTIONS.filter((option) => option.names.some((name) => matching.includes(name)));
}

/**
 * The full name of a shortened long option; every other word unchanged.
 * @throws UsageError when it is ambiguous
 */
function completeName(word: string): string {
  if (!/^--[^=]+$/.test(word) || ALL_NAMES.includes(word)) return word;
  for (const names of [PEER_NAMES, ALL_NAMES]) {
    const found = completions(word, names);
    if (found.length > 1) {
      const all = found.map((option) => option.long).join(' ');
      throw new UsageError(`option ${printable(word)} is ambiguous: ${all}`);
    }
    if (found.length === 1) return found[0].long ?? word;
  }
  return word;
}

/** The names that --long-options prints: all but --long-options and --short-options. */
export function longOptionNames(): readonly string[] {
  return ALL_NAMES.filter((name) => name.startsWith('--') && !/^--(long|short)-options$/.test(name));
}

/** The names that --short-options prints. */
export function shortOptionNames(): readonly string[] {
  return ALL_NAMES.filter((name) => !name.startsWith('--'));
}
