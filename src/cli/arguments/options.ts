// The options of nbdfuse, as commander's Option objects. Parsing, --help, --long-options, --short-options
// and the completions all use this list.
//
// Long names may be shortened, as getopt_long(3) allows. A prefix matches the names of the C nbdfuse first,
// then all names, so that command lines of the C nbdfuse keep their meaning.

import { Option } from 'commander';
import { MAX_CONNECTIONS } from '../../nbd/export-info.js';
import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';
import { FORMAT_CHOICES, requestedFormat } from './format-word.js';
import { metricsAddress } from './metrics-words.js';
import { byteCount, choice, milliseconds, millisecondsOr, wholeNumber } from './values.js';

const MAXIMUM_THREADS = 64;
const MAXIMUM_PARTITION = 1024;
/** Bytes of a cache, in memory or in a file: several units, and a decoder's blocks. */
const MINIMUM_CACHE = 16 * 1024 * 1024;
const CACHE_MODES = ['writeback', 'writethrough', 'none'] as const;
const BACKENDS = ['kernel', 'fuse-native'] as const;
const LOG_FORMATS = ['text', 'json'] as const;
const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** The allowed values of options that take one of a fixed set. */
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

/** An option with further names, and names that may be shortened. */
export class NamedOption extends Option {
  /** All names, the ones with one dash first. */
  readonly names: readonly string[];

  /** @param aliases names besides those in `flags` */
  constructor(flags: string, description: string, aliases: readonly string[] = []) {
    super(flags, description);
    const own = [this.short, this.long].filter((name) => name !== undefined && name !== null);
    this.names = [...new Set([...own, ...aliases])].sort((a, b) => dashes(a) - dashes(b));
  }

  /** commander asks each option whether a word of the command line names it. */
  is(word: string): boolean {
    return this.names.includes(completeName(word));
  }
}

/** Whether an option must or may have a value. */
export function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

function dashes(name: string): number {
  return name.startsWith('--') ? 2 : 1;
}

/** The options under one heading of --help. */
export interface OptionGroup {
  readonly title: string;
  readonly options: readonly NamedOption[];
}

/** All options, in the order of --help. */
export const OPTION_GROUPS: readonly OptionGroup[] = [
  {
    title: 'What to mount',
    options: [
      new NamedOption('--all', 'show every export of SERVER as a file in DIR'),
      new NamedOption('--export <name>', 'export name, unless SERVER is a URI (default: empty)'),
      new NamedOption(
        '--format <format>',
        'format of IMAGE, such as qcow2 or raw.xz (default: detected);\nwith --status or --list-mounts: openmetrics or prometheus',
      ).argParser((text: string) => requestedFormat(text)),
      new NamedOption('--allow-references', 'let IMAGE name files in other directories'),
      new NamedOption('--key-file <file>', 'decrypt IMAGE (LUKS, encrypted qcow2) with the key in FILE'),
      new NamedOption('--member <name>', 'file in IMAGE, a zip or tar archive with several disks'),
      new NamedOption('--partition <n>', 'show only this partition of IMAGE').argParser((text: string) =>
        wholeNumber('--partition', text, 1, MAXIMUM_PARTITION),
      ),
      new NamedOption('--partitions', 'show the disk and each of its partitions as files in DIR'),
      new NamedOption('--snapshot-name <name>', 'show an internal snapshot of a qcow2 image, read-only'),
      new NamedOption('--overlay [file]', 'write to a temporary overlay, or to FILE, instead of IMAGE'),
      new NamedOption('-r, --readonly', 'mount read-only', ['--read-only']),
      new NamedOption('--share', 'look at an image that a running virtual machine uses, read-only'),
      new NamedOption('--print-command', 'print the equivalent command without image options, and exit'),
    ],
  },
  {
    title: 'How to serve it',
    options: [
      new NamedOption('--cache <mode>', 'writeback, writethrough or none')
        .default('writeback', 'writeback')
        .argParser((text: string) => choice('--cache', text, CACHE_MODES)),
      new NamedOption('-C, --connections <n>', 'maximum number of connections')
        .default(4, '4')
        .argParser((text: string) => wholeNumber('--connections', text, 1, MAX_CONNECTIONS)),
      new NamedOption('--threads <n>', 'number of threads that answer reads (default: 1)').argParser(
        (text: string) => wholeNumber('--threads', text, 1, MAXIMUM_THREADS),
      ),
      new NamedOption('-s', 'same as --threads=1'),
      new NamedOption('--reconnect <seconds>', 'how long to wait for a lost server, or forever')
        .default(60_000, '60')
        .argParser((text: string) => millisecondsOr('--reconnect', 'forever', text)),
      new NamedOption('--restart', 'start CMD, or the server of IMAGE, again when it is lost'),
      new NamedOption('--timeout <seconds>', 'how long a connection may stall')
        .default(0, '0, unlimited')
        .argParser((text: string) => milliseconds('--timeout', text)),
      new NamedOption('--settle-time <seconds>', 'time until requests on a lost connection expire')
        .default(Number.POSITIVE_INFINITY, 'never')
        .argParser((text: string) => millisecondsOr('--settle-time', 'never', text)),
      new NamedOption('--fuse-backend <backend>', 'kernel or fuse-native')
        .default('kernel', 'kernel')
        .argParser((text: string) => choice('--fuse-backend', text, BACKENDS)),
    ],
  },
  {
    title: 'What to keep and fetch ahead',
    options: [
      new NamedOption('--cache-file <file>', 'keep the parts that programs read in FILE'),
      new NamedOption('--cache-dir <dir>', 'the same in DIR, with a file for each image'),
      new NamedOption('--cache-size <size>', 'maximum size of the cache file (default: unlimited)').argParser(
        (text: string) => byteCount('--cache-size', text, MINIMUM_CACHE),
      ),
      new NamedOption(
        '--cache-memory <size>',
        'memory for compressed and remote images (default: 256M)',
      ).argParser((text: string) => byteCount('--cache-memory', text, MINIMUM_CACHE)),
      new NamedOption(
        '--prefetch [rate]',
        'read the whole disk in the background, RATE bytes a second',
      ).argParser((text: string) =>
        text === '' ? Number.POSITIVE_INFINITY : byteCount('--prefetch', text, 1),
      ),
      new NamedOption('--trace <file>', 'record the order of reads in FILE, for the next mount'),
    ],
  },
  {
    title: 'Running and unmounting',
    options: [
      new NamedOption('-f, --foreground', 'run in the foreground (default)'),
      new NamedOption('--daemon', 'return when the file is ready, and serve it in the background'),
      new NamedOption('-o <options>', 'mount options, separated by commas; see --fuse-help')
        .default([])
        .argParser((text: string, previous: readonly string[]) => [...previous, text]),
      new NamedOption('-P, --pidfile <file>', 'write the process ID to FILE when the file is ready', [
        '--pid-file',
      ]),
      new NamedOption('--unmount', 'unmount, and wait until all data is written and nbdfuse exits'),
    ],
  },
  {
    title: 'Monitoring and messages',
    options: [
      new NamedOption('--list', 'list the exports of SERVER'),
      new NamedOption('--status', 'show the server, connections and statistics of a mount'),
      new NamedOption('--list-mounts', 'list your mounts (root: all); with --status: show them'),
      new NamedOption('--watch', 'with --status: update every second'),
      new NamedOption('--json', 'with --list, --status or --list-mounts: print JSON'),
      new NamedOption('--metrics <where>', 'serve metrics at PORT, ADDRESS:PORT or unix:PATH').argParser(
        (text: string) => metricsAddress(text),
      ),
      new NamedOption('-v, --verbose', 'print details and trace every request on standard error', ['-d']),
      new NamedOption(
        '--log-file <file>',
        'append messages to FILE (with --daemon, default: the system log)',
      ),
      new NamedOption('--log-format <format>', 'format of messages: text or json')
        .default('text', 'text')
        .argParser((text: string) => choice('--log-format', text, LOG_FORMATS)),
    ],
  },
  {
    title: 'Help',
    options: [
      new NamedOption('-h, --help', 'show this help'),
      new NamedOption('--fuse-help', 'list the options for -o'),
      new NamedOption('--completion <shell>', 'print a completion script for bash, zsh or fish').argParser(
        (text: string) => choice('--completion', text, SHELLS),
      ),
      new NamedOption('-V, --version', 'show the version'),
      new NamedOption('--long-options', 'list the long options'),
      new NamedOption('--short-options', 'list the short options'),
    ],
  },
];

/** All options. */
export const OPTIONS: readonly NamedOption[] = OPTION_GROUPS.flatMap(({ options }) => options);

const ALL_NAMES = OPTIONS.flatMap((option) => option.names);

/** The option that a word names; undefined for every other word. @throws UsageError when it can mean several */
export function optionOf(word: string): NamedOption | undefined {
  return OPTIONS.find((option) => option.is(word));
}

/** The options that a shortened name can mean among `names`. */
function completions(prefix: string, names: readonly string[]): readonly NamedOption[] {
  const matching = names.filter((name) => name.startsWith(prefix));
  return OPTIONS.filter((option) => option.names.some((name) => matching.includes(name)));
}

/**
 * The full name that a long option's shortened name stands for; any other word as it is.
 * @throws UsageError when it can mean several
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
